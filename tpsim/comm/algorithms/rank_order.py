"""Rank order, around a star: what one writes first, and the sum that one would write on paper.

Rank 0 receives from ranks 1, 2, … in that order and adds ((x0 + x1) + x2) + …; then it sends to each::

    1 ──┐
    2 ──┼──▶ 0
    3 ──┘

All waits for rank 0, whose link carries p − 1 times as much as any other.
"""

from collections.abc import Sequence

import numpy as np

from tpsim.comm.algorithms.chunks import around, split
from tpsim.comm.algorithms.fused import chain, reduce
from tpsim.comm.algorithms.port import Array, Port, Steps, recv, send


def all_reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Add up in rank 0, then send the sum to each.

    Cost: (p−1)(2α + 2nβ + nγ).
    """
    yield from _reduce(port, buffer, op)
    yield from broadcast(port, buffer, root=0)


def reduce_scatter(port: Port, blocks: Sequence[Array], op: np.ufunc) -> Steps:
    """Add up in rank 0, then send each its block.

    Cost: (p−1)(2α + n(1 + 1/p)β + nγ).
    """
    whole = np.concatenate(blocks)
    yield from _reduce(port, whole, op)
    parts = split(whole, around(blocks))
    if port.rank == 0:
        for rank in range(1, port.size):
            yield send(port, parts[rank], rank)
    else:
        yield recv(port, parts[port.rank], 0)
    blocks[port.rank][...] = parts[port.rank]


def all_gather(port: Port, blocks: Sequence[Array]) -> Steps:
    """Collect in rank 0, then send the whole to each.

    Cost: (p−1)(2α + n(1 + 1/p)β).
    """
    whole = np.concatenate(blocks)
    parts = split(whole, around(blocks))
    if port.rank == 0:
        for rank in range(1, port.size):
            yield recv(port, parts[rank], rank)
    else:
        yield send(port, parts[port.rank], 0)
    yield from broadcast(port, whole, root=0)
    for block, part in zip(blocks, parts, strict=True):
        block[...] = part


def broadcast(port: Port, buffer: Array, root: int) -> Steps:
    """Send to each.

    Cost: (p−1)(α + nβ).
    """
    if port.rank != root:
        yield recv(port, buffer, root)
    else:
        for rank in range(port.size):
            if rank != root:
                yield send(port, buffer, rank)


def _reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Leave the sum in rank 0's buffer."""
    if port.rank != 0:
        yield send(port, buffer, 0)
    else:
        inbox = np.empty_like(buffer)
        for rank in range(1, port.size):
            yield recv(port, inbox, rank)
            op(buffer, inbox, out=buffer)


def combine(values: Sequence[Array], op: np.ufunc) -> Array:
    """What `all_reduce` leaves on every rank, from all ranks' buffers."""
    return reduce(values, op, chain)


def combine_scatter(values: Sequence[Array], offsets: Sequence[int], op: np.ufunc) -> list[Array]:
    """What `reduce_scatter` leaves on each rank, from all ranks' buffers."""
    return split(combine(values, op), offsets)
