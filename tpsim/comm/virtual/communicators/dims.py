"""`MPI.Compute_dims`: how many ranks along each dimension of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from tpsim.comm.virtual.data.exceptions import error


def Compute_dims(nnodes: int, dims: int | Sequence[int]) -> list[int]:
    """Return a grid of `nnodes` ranks that is as near to a cube as can be.

    Parameters
    ----------
    nnodes : int
        How many ranks.
    dims : int or sequence of int
        The number of dimensions; or their lengths, of which those that are 0 are to be found.

    Returns
    -------
    list of int
        The lengths: those that were found never increase, and the largest is as small as can be, then the
        next, and so on.

    Raises
    ------
    MPI.Exception
        ERR_DIMS if there is no such grid.

    Examples
    --------
    >>> Compute_dims(12, 2)
    [4, 3]
    >>> Compute_dims(12, [0, 2, 0])
    [3, 2, 2]
    """
    lengths = [0] * int(dims) if isinstance(dims, int | np.integer) else [int(length) for length in dims]
    fixed = prod(length for length in lengths if length)
    free = lengths.count(0)
    possible = nnodes > 0 and min(lengths, default=0) >= 0 and nnodes % fixed == 0
    if not possible or (lengths and not free and nnodes != fixed):
        raise error(
            "ERR_DIMS",
            f"Compute_dims: {nnodes} ranks can't be laid out as {lengths}; the lengths that are given must "
            "divide the number of ranks (0 leaves one open), and give it if all are given",
        )
    found = iter(min(_grids(nnodes // fixed, free, nnodes))) if free else iter(())
    return [length or next(found) for length in lengths]


def _grids(count: int, dims: int, longest: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write `count` as a product of `dims` lengths that never increase."""
    if dims == 1:
        if count <= longest:
            yield (count,)
        return
    for first in range(1, min(count, longest) + 1):
        if count % first == 0 and first**dims >= count:
            for rest in _grids(count // first, dims - 1, first):
                yield first, *rest
