"""What one may ask of a communicator in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from tpsim.comm.virtual.communicators.cartesian import Cartesian
from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.communicators.handle import handle_of
from tpsim.comm.virtual.communicators.making import Making
from tpsim.comm.virtual.data.constants import PROC_NULL
from tpsim.comm.virtual.data.exceptions import error


class CartesianCalls(Making):
    """What one may ask of a communicator in a grid."""

    @property
    def _grid(self) -> Cartesian:
        topology = self._context.topology
        assert isinstance(topology, Cartesian)
        return topology

    def Get_dim(self) -> int:
        """Return the number of dimensions."""
        return len(self._grid.dims)

    def Get_topo(self) -> tuple[list[int], list[int], list[int]]:
        """Return (dims, periods, this rank's coords)."""
        grid = self._grid
        return list(grid.dims), [int(period) for period in grid.periods], grid.coords(self.rank)

    dim = ndim = property(Get_dim)
    topo = property(Get_topo)

    @property
    def dims(self) -> list[int]:
        """The lengths of the dimensions."""
        return self.Get_topo()[0]

    @property
    def periods(self) -> list[int]:
        """Whether the dimensions are rings."""
        return self.Get_topo()[1]

    @property
    def coords(self) -> list[int]:
        """Where this rank is."""
        return self.Get_topo()[2]

    def Get_cart_rank(self, coords: Sequence[int]) -> int:
        """Return the rank at some coordinates. Those of a ring may lie beyond its ends."""
        grid, wanted = self._grid, [index(coord) for coord in coords]
        if len(wanted) != len(grid.dims):
            raise ValueError(
                f"Get_cart_rank: {len(wanted)} coordinates for {len(grid.dims)} dimensions; pass one for each"
            )
        rank = grid.rank_at(wanted)
        if rank == PROC_NULL:
            raise error(
                "ERR_ARG",
                f"Get_cart_rank: {wanted} lies outside the grid {list(grid.dims)}; only along a ring "
                "(periods) may one go beyond the ends, else test before",
            )
        return rank

    def Get_coords(self, rank: int) -> list[int]:
        """Return the coordinates of a rank."""
        self._check_rank("Get_coords", "rank", rank)
        return self._grid.coords(int(rank))

    def Shift(self, direction: int, disp: int) -> tuple[int, int]:
        """Return (source, dest) for shifting data by `disp` places; PROC_NULL beyond an edge."""
        grid = self._grid
        if not 0 <= direction < len(grid.dims):
            raise error(
                "ERR_ARG",
                f"Shift: direction {direction} is not one of {len(grid.dims)} dimensions; they count from 0",
            )
        return grid.shift(self.rank, int(direction), int(disp))

    def Sub(self, remain_dims: Sequence[bool]) -> Any:
        """Return the grid of those ranks that differ from this one in the remaining dimensions only."""
        grid = self._grid
        remain = [bool(remains) for remains in remain_dims]
        if len(remain) != len(grid.dims):
            raise ValueError(
                f"Sub: remain_dims has {len(remain)} entries for {len(grid.dims)} dimensions; pass one each"
            )
        coords = grid.coords(self.rank)
        color = grid.rank_at([0 if r else coord for coord, r in zip(coords, remain, strict=True)])
        part = self._divided("Sub", color, self.rank)
        assert part is not None
        kept = [i for i, remains in enumerate(remain) if remains]
        below = Cartesian(tuple(grid.dims[i] for i in kept), tuple(grid.periods[i] for i in kept))
        return handle_of(Context(self.world, part.key, part.groups[0], part.rank, below))
