"""What the capital-letter collectives of `VirtualComm` compute, from all ranks' arrays at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.constants import Op

Arrays = Sequence[NDArray[Any]]


def reduce(values: Arrays, op: Op) -> Arrays:
    """Return ((x0 + x1) + x2) + … for every rank (one array; each rank copies it)."""
    total = values[0].copy()
    for value in values[1:]:
        op.on_arrays(total, value, out=total)
    return [total] * len(values)


def reduce_objects(values: Sequence[Any], op: Op) -> Any:
    """Return the objects reduced in rank order."""
    total = values[0]
    for value in values[1:]:
        total = op(total, value)
    return total


def broadcast(buffers: Arrays, root: int) -> Arrays:
    """Copy the root's buffer into all others."""
    for rank, buffer in enumerate(buffers):
        if rank != root:
            np.copyto(buffer, buffers[root])
    return buffers


def gather(values: Arrays) -> Arrays:
    """Return all arrays behind one another, for every rank."""
    return [np.concatenate(values)] * len(values)


def scatter(whole: NDArray[Any], size: int) -> Arrays:
    """Return the root's equal blocks."""
    return np.split(whole, size)


def all_to_all(values: Arrays) -> Arrays:
    """Return block j of every rank, for rank j."""
    size = len(values)
    blocks = [np.split(value, size) for value in values]
    return [np.concatenate([blocks[source][rank] for source in range(size)]) for rank in range(size)]
