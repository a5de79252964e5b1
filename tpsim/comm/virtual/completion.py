"""The one thing a virtual rank waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpsim.comm.places import Mark

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Completion:
    """Something that will be done. `waiters` are the world ranks to wake then."""

    __slots__ = ("done", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.waiters: list[int] = []

    def describe(self, rank: int, world: World) -> str:
        """Say what world rank `rank` is doing while it waits for this."""
        raise NotImplementedError

    def begun(self, rank: int) -> Mark:
        """Return the line from which world rank `rank` began this, if it did so without waiting."""
        raise NotImplementedError
