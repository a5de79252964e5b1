"""What virtual ranks wait for: one thing, any of several, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tpsim.comm.places import Mark

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Completion:
    """Something that will be done. `waiters` are called then, each once, to wake whoever waits."""

    __slots__ = ("done", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.waiters: list[Callable[[], None]] = []

    def complete(self) -> None:
        """Be done. Called with the world's lock held."""
        self.done = True
        for wake in self.waiters:
            wake()
        self.waiters.clear()

    def describe(self, rank: int, world: World) -> str:
        """Say what world rank `rank` is doing while it waits for this."""
        raise NotImplementedError

    def begun(self, rank: int) -> Mark:
        """Return the line from which world rank `rank` began this, if it did so without waiting."""
        raise NotImplementedError


class Several(Completion):
    """Several completions that are waited for together. Made with the world's lock held."""

    __slots__ = ("members",)

    def __init__(self, members: Sequence[Completion]) -> None:
        super().__init__()
        self.members = [member for member in members if not member.done]
        for member in self.members:
            member.waiters.append(self._one_is_done)

    def _one_is_done(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Hear no more of the members. Called with the world's lock held."""
        for member in self.members:
            if not member.done:
                member.waiters.remove(self._one_is_done)

    def waits_for(self) -> list[Completion]:
        """Return the members that are not done."""
        return [member for member in self.members if not member.done]

    def describe(self, rank: int, world: World) -> str:
        """Name the calls that are not complete."""
        calls = list(dict.fromkeys(member.describe(rank, world) for member in self.waits_for()))
        return calls[0] if len(calls) == 1 else f"{self._which} of {'; '.join(calls)}"

    _which = ""

    def begun(self, rank: int) -> Mark:
        """Return the line from which the first that is not done was begun."""
        return next((member.begun(rank) for member in self.waits_for()), ())


class AnyOf(Several):
    """Done when one of its members is."""

    __slots__ = ()
    _which = "any"

    def __init__(self, members: Sequence[Completion]) -> None:
        over = any(member.done for member in members)
        super().__init__(() if over else members)
        self.done = over

    def _one_is_done(self) -> None:
        if not self.done:
            self.complete()


class AllOf(Several):
    """Done when each of its members is."""

    __slots__ = ("_left",)
    _which = "all"

    def __init__(self, members: Sequence[Completion]) -> None:
        super().__init__(members)
        self._left = len(self.members)
        self.done = not self._left

    def _one_is_done(self) -> None:
        self._left -= 1
        if not self._left:
            self.complete()
