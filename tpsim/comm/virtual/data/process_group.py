"""mpi4py's `Group`: an ordered set of ranks, to make communicators of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Self

from tpsim.comm.virtual.data.absent import leave_out
from tpsim.comm.virtual.data.constants import IDENT, PROC_NULL, SIMILAR, UNDEFINED, UNEQUAL
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle, constant

Range = Sequence[int]
"""(first, last, stride)"""


class GroupState:
    """What a group holds: world ranks, in the group's order, and whose group it is."""

    __slots__ = ("__weakref__", "me", "members", "rank_of")

    def __init__(self, members: Iterable[int], me: int | None) -> None:
        self.members = tuple(members)
        self.me = me
        self.rank_of = {world_rank: rank for rank, world_rank in enumerate(self.members)}


@leave_out
class ProcessGroup(MPIHandle):
    """An ordered set of ranks (mpi4py's `MPI.Group`; `tpsim.Group` is something else)."""

    __slots__ = ()
    _state: GroupState | None
    _error = "ERR_GROUP"

    def __new__(cls, group: ProcessGroup | None = None) -> Self:
        """Return another handle of the same group; without any, a null handle."""
        return super().__new__(cls, group)

    @classmethod
    def of(cls, members: Iterable[int], me: int | None) -> Self:
        """Return the group of some world ranks, for the rank `me`."""
        state = GroupState(members, me)
        return cls._of(state if state.members else _EMPTY)

    def __repr__(self) -> str:
        return f"Group({'null' if self._state is None else list(self._state.members)})"

    @property
    def members(self) -> tuple[int, ...]:
        """The world ranks, in the group's order."""
        members: tuple[int, ...] = self._held().members
        return members

    def Get_size(self) -> int:
        """Return how many ranks there are."""
        return len(self.members)

    def Get_rank(self) -> int:
        """Return this rank's number in the group; UNDEFINED if it is not in it."""
        state = self._held()
        rank: int = state.rank_of.get(state.me, UNDEFINED)
        return rank

    size = property(Get_size)
    rank = property(Get_rank)

    def Translate_ranks(
        self, ranks: Sequence[int] | None = None, group: ProcessGroup | None = None
    ) -> list[int]:
        """Return the numbers that ranks of this group have in another one, or UNDEFINED.

        By default: of all of its ranks, and in COMM_WORLD's group.
        """
        members = self.members
        wanted = range(len(members)) if ranks is None else self._checked("Translate_ranks", ranks, null=True)
        there = None if group is None else group._held().rank_of
        return [
            PROC_NULL
            if rank == PROC_NULL
            else members[rank]
            if there is None
            else there.get(members[rank], UNDEFINED)
            for rank in wanted
        ]

    def Compare(self, group: ProcessGroup) -> int:
        """Return IDENT, or SIMILAR if the order differs, or UNEQUAL."""
        if self.members == group.members:
            return IDENT
        return SIMILAR if set(self.members) == set(group.members) else UNEQUAL

    def Dup(self) -> Self:
        """Return a group of the same ranks."""
        return self._with(self.members)

    @classmethod
    def Union(cls, group1: ProcessGroup, group2: ProcessGroup) -> Self:
        """Return all ranks of the first group, followed by the others of the second."""
        return cls._of(group1._with(dict.fromkeys((*group1.members, *group2.members)), group2)._state)

    @classmethod
    def Intersection(cls, group1: ProcessGroup, group2: ProcessGroup) -> Self:
        """Return the ranks of both groups, in the order of the first."""
        return cls._of(
            group1._with([r for r in group1.members if r in group2._held().rank_of], group2)._state
        )

    Intersect = Intersection

    @classmethod
    def Difference(cls, group1: ProcessGroup, group2: ProcessGroup) -> Self:
        """Return the ranks of the first group that are not in the second."""
        return cls._of(group1._with([r for r in group1.members if r not in group2._held().rank_of])._state)

    def Incl(self, ranks: Sequence[int]) -> Self:
        """Return the group of these ranks of this one, in the order given."""
        return self._with([self.members[rank] for rank in self._checked("Incl", ranks)])

    def Excl(self, ranks: Sequence[int]) -> Self:
        """Return the group of all but these ranks of this one."""
        out = set(self._checked("Excl", ranks))
        return self._with([world_rank for rank, world_rank in enumerate(self.members) if rank not in out])

    def Range_incl(self, ranks: Sequence[Range]) -> Self:
        """Return the group of the ranks in these (first, last, stride), `last` included."""
        return self.Incl(_listed("Range_incl", ranks))

    def Range_excl(self, ranks: Sequence[Range]) -> Self:
        """Return the group of all but the ranks in these (first, last, stride), `last` included."""
        return self.Excl(_listed("Range_excl", ranks))

    def _with(self, members: Iterable[int], other: ProcessGroup | None = None) -> Self:
        me = self._held().me
        return self.of(members, other._held().me if me is None and other is not None else me)

    def _checked(self, call: str, ranks: Sequence[int], *, null: bool = False) -> list[int]:
        """Return ranks of this group, each of which must be one, and but once."""
        size, numbers = self.Get_size(), [index(rank) for rank in ranks]
        for rank in numbers:
            if not 0 <= rank < size and not (null and rank == PROC_NULL):
                raise error("ERR_RANK", f"{call}: {rank} is not a rank of this group; pick 0 to {size - 1}")
        if not null and len(set(numbers)) < len(numbers):
            raise error("ERR_RANK", f"{call}: {numbers} names a rank twice; a group has each rank once")
        return numbers


def _listed(call: str, ranges: Sequence[Range]) -> list[int]:
    ranks: list[int] = []
    for first, last, stride in ranges:
        if not stride:
            raise error(
                "ERR_ARG", f"{call}: the range from {first} to {last} has stride 0; pass 1 or -1, or more"
            )
        ranks += range(first, last + (1 if stride > 0 else -1), stride)
    return ranks


_EMPTY = GroupState((), None)
GROUP_NULL = constant("GROUP_NULL", ProcessGroup())
GROUP_EMPTY = constant("GROUP_EMPTY", ProcessGroup._of(_EMPTY))
