"""Cartesian topologies: ranks in a grid, numbered along the last dimension first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from operator import index
from typing import Any

from tpsim.comm.virtual.data.constants import CART, PROC_NULL
from tpsim.comm.virtual.data.exceptions import error


@dataclass(frozen=True, slots=True)
class Cartesian:
    """A grid."""

    dims: tuple[int, ...]
    periods: tuple[bool, ...]
    """Whether a dimension is a ring."""

    @property
    def kind(self) -> int:
        """CART."""
        return CART

    @property
    def size(self) -> int:
        """How many ranks it has."""
        return prod(self.dims)

    def coords(self, rank: int) -> list[int]:
        """Return where a rank is."""
        coords = []
        for length in reversed(self.dims):
            rank, coord = divmod(rank, length)
            coords.append(coord)
        return coords[::-1]

    def rank_at(self, coords: Sequence[int]) -> int:
        """Return who is there; PROC_NULL beyond an edge. Rings are gone round."""
        rank = 0
        for coord, length, periodic in zip(coords, self.dims, self.periods, strict=True):
            if not periodic and not 0 <= coord < length:
                return PROC_NULL
            rank = rank * length + coord % length
        return rank

    def shift(self, rank: int, direction: int, disp: int) -> tuple[int, int]:
        """Return (the rank `disp` places before, the one `disp` places behind) along a dimension."""
        here = self.coords(rank)
        before, behind = list(here), list(here)
        before[direction] -= disp
        behind[direction] += disp
        return self.rank_at(before), self.rank_at(behind)

    def neighbours(self, rank: int) -> tuple[list[int], list[int]]:
        """Return those before and behind in each dimension: a rank hears from the same as it sends to."""
        pairs = [self.shift(rank, direction, 1) for direction in range(len(self.dims))]
        around = [neighbour for pair in pairs for neighbour in pair]
        return around, list(around)


def cartesian(call: str, dims: Sequence[int], periods: Any, size: int) -> Cartesian:
    """Return the grid that a call asks for, checked.

    Raises
    ------
    ValueError
        If `periods` is not one for each of the `dims`.
    MPI.Exception
        ERR_ARG if there are not enough ranks; ERR_DIMS if a length is not positive.
    """
    lengths = tuple(index(length) for length in dims)
    if periods is None or isinstance(periods, bool):
        periods = [bool(periods)] * len(lengths)
    if len(periods) != len(lengths):
        raise ValueError(
            f"{call}: {len(periods)} periods for {len(lengths)} dimensions; pass one for each, or one bool"
        )
    if any(length < 1 for length in lengths):
        raise error(
            "ERR_DIMS", f"{call}: dims {list(lengths)} must all be positive; let MPI.Compute_dims find them"
        )
    grid = Cartesian(lengths, tuple(bool(period) for period in periods))
    if grid.size > size:
        raise error(
            "ERR_ARG",
            f"{call}: a grid of {list(lengths)} needs {grid.size} ranks, and there are {size}; make it "
            "smaller, or start more ranks",
        )
    return grid
