"""`VirtualComm`: mpi4py's communicator, for ranks that live in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpsim.comm.call_marker import VirtualCallMarker
from tpsim.comm.signature import Signature
from tpsim.comm.virtual.arrays import ArrayCollectives
from tpsim.comm.virtual.objects import ObjectCollectives
from tpsim.comm.virtual.point_to_point import PointToPoint
from tpsim.comm.virtual.world import World


class VirtualComm(PointToPoint, ArrayCollectives, ObjectCollectives):
    """One rank's end of a communicator among virtual ranks.

    Methods have mpi4py's names and meaning: capital names move the memory of arrays, lower-case ones
    move any Python object (pickled, so that each rank has a copy of its own). Reductions add in rank
    order. `tpsim.run` hands each rank its `VirtualComm`; nobody else needs to make one.

    Attributes
    ----------
    rank, size : int
        This rank within the communicator, and how many ranks it has.
    """

    def __init__(self, world: World, key: Any, members: Sequence[int], rank: int) -> None:
        super().__init__(world, key, members, rank)
        self._copies = 0  # Dups so far

    def __repr__(self) -> str:
        return f"VirtualComm(rank {self.rank} of {self.size})"

    def Dup(self) -> VirtualComm:
        """Return a communicator of the same ranks, whose messages never meet this one's."""
        self._copies += 1
        return VirtualComm(self.world, (self._id, "dup", self._copies), self._members, self.rank)

    Clone = Dup

    def Split(self, color: int = 0, key: int = 0) -> VirtualComm | None:
        """Return the communicator of the ranks with the same color, ordered by key, then by rank.

        A rank whose color is UNDEFINED (or any negative number) gets None.
        """
        choices = self.together(
            Signature("Split"), (color, key, self.rank), lambda all_: [tuple(all_)] * self.size
        )
        number = self._calls  # of this very Split
        if color < 0:
            return None
        together = [rank for _, rank in sorted((k, r) for c, k, r in choices if c == color)]
        members = [self._members[rank] for rank in together]
        return VirtualComm(self.world, (self._id, "split", number, color), members, together.index(self.rank))

    def Set_name(self, name: str) -> None:
        """Name the communicator, for messages."""
        self.world.names[self._id] = name

    def Get_name(self) -> str:
        """Return the communicator's name."""
        return self.world.names.get(self._id, "")

    def call_marker(self) -> VirtualCallMarker:
        """Return where this rank says which call it is in."""
        return VirtualCallMarker(self.world.calling, self._me)

    def Free(self) -> None:
        """Do nothing: virtual communicators go when nobody refers to them."""

    def Abort(self, errorcode: int = 0) -> None:
        """End the whole run."""
        raise SystemExit(errorcode)
