"""A collective as one step: every rank brings a value, the last to come computes for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from tpsim.comm.places import Mark
from tpsim.comm.signature import Signature, name_ranks
from tpsim.comm.virtual.completion import Completion

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

Combine = Callable[[list[Any]], Sequence[Any]]
"""From every rank's value, in rank order, to every rank's result."""


class Meeting(Completion):
    """The n-th collective of one communicator: who has come, and with what."""

    __slots__ = (
        "_begun",
        "agreed",
        "came",
        "comm",
        "error",
        "first",
        "members",
        "results",
        "signatures",
        "values",
    )

    def __init__(self, comm: int, members: Sequence[int], first: Signature) -> None:
        super().__init__()
        self.comm = comm
        self.members = members  # world ranks, by rank within the communicator
        self.came = 0
        self.agreed = True
        self.first = first
        self.signatures: list[Signature | None] = [None] * len(members)
        self.values: list[Any] = [None] * len(members)
        self.results: Sequence[Any] = ()
        self.error: Exception | None = None
        self._begun: dict[int, Mark] = {}

    def join(self, rank: int, signature: Signature, value: Any, begun: Mark = ()) -> bool:
        """Bring `value`; return whether everybody is here now."""
        if signature is not self.first and signature != self.first:
            self.agreed = False
        self.signatures[rank] = signature
        self.values[rank] = value
        if begun:
            self._begun[self.members[rank]] = begun
        self.came += 1
        return self.came == len(self.members)

    def result_of(self, seat: int) -> Any:
        """Return what the meeting, which is over, gave to one of those who met; or raise its error."""
        if self.error is not None:
            raise copy(self.error)  # one each: an error that is raised gathers its rank's traceback
        return self.results[seat]

    def missing(self) -> list[int]:
        """Return the world ranks that have not come."""
        return [self.members[i] for i, s in enumerate(self.signatures) if s is None]

    def among(self, world: World) -> str:
        """Say which ranks the collective is among, unless it is all of them."""
        return f" among {name_ranks(self.members)}" if len(self.members) < world.size else ""

    def describe(self, rank: int, world: World) -> str:
        """Say which collective world rank `rank` called; and in which group, where several are in one."""
        group = world.names.get(self.comm, "") if len(world.meetings) > 1 else ""
        of = f" of group {group!r}" if group else ""
        return f"{self.signatures[self.members.index(rank)]}{of}{self.among(world)}"

    def operation(self, rank: int) -> str:
        """Return the name of what world rank `rank` called."""
        signature = self.signatures[self.members.index(rank)]
        return "" if signature is None else signature.operation

    def of_group(self, rank: int) -> bool:
        """Tell whether world rank `rank` came by a call of a `Group`, which names an algorithm."""
        signature = self.signatures[self.members.index(rank)]
        return signature is not None and bool(signature.algorithm)

    def begun(self, rank: int) -> Mark:
        """Return the line from which world rank `rank` began a non-blocking call."""
        return self._begun.get(rank, ())
