"""The layouts that MPI's type constructors make (MPI 4.1, chapter 5). All displacements are in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from tpsim.comm.virtual.data.layout import Block, Layout, basic, compound


def strided(base: Layout, count: int, blocklength: int, stride: int) -> Layout:
    """Return `count` blocks of `blocklength` elements, `stride` bytes apart."""
    if stride == blocklength * base.extent:
        return compound([Block(0, count * blocklength, base)])
    if not count or not blocklength:
        return compound([])
    block = compound([Block(0, blocklength, base)])
    ends = compound([Block(place, 1, block) for place in (0, (count - 1) * stride)])
    blocks = compound([Block(0, count, resized(block, block.lb, stride))])
    return replace(blocks, lb=ends.lb, ub=ends.ub)


def resized(base: Layout, lb: int, extent: int) -> Layout:
    """Return a layout with other bounds."""
    return replace(base, lb=lb, ub=lb + extent, blocks=base.blocks or (Block(0, 1, base),))


def pair(value: np.dtype[Any], index: np.dtype[Any]) -> Layout:
    """Return the layout of C's struct of a value and an index, for MINLOC and MAXLOC."""
    offset = value.itemsize + -value.itemsize % index.alignment
    struct = compound([Block(0, 1, basic(value)), Block(offset, 1, basic(index))], padded=True)
    return replace(struct, dtype=np.dtype([("value", value), ("index", index)]))


def subarray(
    base: Layout, sizes: Sequence[int], subsizes: Sequence[int], starts: Sequence[int], *, fortran: bool
) -> Layout:
    """Return a rectangular part of an array; an element reaches over the whole array."""
    return box(base, sizes, [range(a, a + n) for a, n in zip(starts, subsizes, strict=True)], fortran=fortran)


def box(base: Layout, sizes: Sequence[int], indices: Sequence[Sequence[int]], *, fortran: bool) -> Layout:
    """Return the part of an array with these indices in each dimension."""
    order = list(zip(sizes, indices, strict=True))
    if not fortran:
        order.reverse()
    inner, stride = base, base.extent
    for size, wanted in order:  # the fastest dimension first
        step = resized(inner, 0, stride) if inner.extent != stride else inner
        inner = compound([Block(first * stride, n, step) for first, n in _stretches(wanted)])
        stride *= size
    return resized(inner, 0, prod(sizes) * base.extent)


def _stretches(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, how many) of each run of neighbours."""
    if not indices:
        return []
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(indices)) if b != a + 1), len(indices)]
    return [(indices[a], b - a) for a, b in pairwise(cuts)]


def owned_indices(size: int, distribution: str, block: int | None, places: int, place: int) -> list[int]:
    """Return which of `size` indices the rank at `place` of `places` has, by the rules of MPI 4.1, 5.1.4.

    Parameters
    ----------
    distribution : {"BLOCK", "CYCLIC", "NONE"}
        Blocks one after the other, or dealt out in turn, or everything to everybody.
    block : int or None
        The length of a block; None is all that fits into one round (BLOCK) or one index (CYCLIC).
    """
    if distribution == "NONE":
        return list(range(size))
    if distribution == "BLOCK":
        length = -(-size // places) if block is None else block
        return list(range(place * length, min((place + 1) * length, size)))
    length = 1 if block is None else block
    return [i for i in range(size) if i // length % places == place]
