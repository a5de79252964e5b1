"""The ring: every rank sends to its right neighbour only, and all links are busy all the time.

A chunk travels once around; each rank adds its own part before passing it on, so after p − 1 steps the last
one has the sum. A second trip hands the sums out. With p = 4, at the first step::

    rank 0 ──chunk 0──▶ rank 1 ──chunk 1──▶ rank 2 ──chunk 2──▶ rank 3 ──chunk 3──▶ rank 0

Each rank sends 2(p−1)/p of its buffer in all, whatever p is: no algorithm can do with less. The price is
2(p−1) latencies.

References
----------
Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of workstations",
Journal of Parallel and Distributed Computing 69(2).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tpsim.comm.algorithms.chunks import bounds, split
from tpsim.comm.algorithms.fused import chain, reduce
from tpsim.comm.algorithms.port import Array, Port, Request, Steps, recv, send


def all_reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Reduce-scatter around the ring, then all-gather around it.

    Cost: 2(p−1)α + 2n(p−1)/p·β + n(p−1)/p·γ.
    """
    chunks = split(buffer, bounds(buffer.size, port.size))
    yield from _reduce_around(port, chunks, op, first=port.rank)
    yield from _gather_around(port, chunks, first=port.rank + 1)


def reduce_scatter(port: Port, blocks: Sequence[Array], op: np.ufunc) -> Steps:
    """Once around, started one block earlier than in `all_reduce`, to end up with the rank's own.

    Cost: (p−1)α + n(p−1)/p·(β + γ).
    """
    return _reduce_around(port, blocks, op, first=port.rank - 1)


def all_gather(port: Port, blocks: Sequence[Array]) -> Steps:
    """Once around: pass on what came last.

    Cost: (p−1)α + n(p−1)/p·β.
    """
    return _gather_around(port, blocks, first=port.rank)


def _reduce_around(port: Port, chunks: Sequence[Array], op: np.ufunc, first: int) -> Steps:
    """Send chunk ``first``, then each one that has just been added to; chunk ``first + 1`` ends up whole."""
    p, left, right = port.size, (port.rank - 1) % port.size, (port.rank + 1) % port.size
    inbox = np.empty_like(max(chunks, key=len))
    for step in range(p - 1):
        outgoing, mine = chunks[(first - step) % p], chunks[(first - step - 1) % p]
        arriving = inbox[: mine.size]
        yield recv(port, arriving, left) + send(port, outgoing, right)
        op(arriving, mine, out=mine)


def _gather_around(port: Port, chunks: Sequence[Array], first: int) -> Steps:
    """Send chunk ``first``, then each one that has just come."""
    p, left, right = port.size, (port.rank - 1) % port.size, (port.rank + 1) % port.size
    for step in range(p - 1):
        outgoing, arriving = chunks[(first - step) % p], chunks[(first - step - 1) % p]
        yield recv(port, arriving, left) + send(port, outgoing, right)


def broadcast(port: Port, buffer: Array, root: int) -> Steps:
    """Pass the buffer along the ring in p chunks: while one is sent on, the next one comes in.

    Cost: 2(p−1)(α + n/p·β); whole buffers would take (p−1)(α + nβ).
    """
    p, hops = port.size, (port.rank - root) % port.size  # hops from the root to here
    sent: tuple[Request, ...] = ()
    for chunk in split(buffer, bounds(buffer.size, p)):
        if hops > 0:
            yield recv(port, chunk, (port.rank - 1) % p)
        if hops < p - 1:
            sent += send(port, chunk, (port.rank + 1) % p)
    yield sent


def combine(values: Sequence[Array], op: np.ufunc) -> Array:
    """What `all_reduce` leaves on every rank, from all ranks' buffers.

    Chunk c is x_c + x_(c+1) + … + x_(c−1), ranks mod p, added from the left.
    """
    return _combine(values, bounds(values[0].size, len(values)), op, first=0)


def combine_scatter(values: Sequence[Array], offsets: Sequence[int], op: np.ufunc) -> list[Array]:
    """What `reduce_scatter` leaves on each rank, from all ranks' buffers.

    Block b is x_(b+1) + x_(b+2) + … + x_b, ranks mod p, added from the left: its owner comes last.
    """
    return split(_combine(values, offsets, op, first=1), offsets)


def _combine(values: Sequence[Array], offsets: Sequence[int], op: np.ufunc, first: int) -> Array:
    """Chunk c is a chain that begins at rank ``c + first``."""
    p, count = len(values), values[0].size
    total = np.empty_like(values[0])
    if 4 < count < 128 * p:
        return _combine_short_chunks(np.concatenate(values), offsets, op, first, total)
    for c, (start, stop) in enumerate(pairwise(offsets)):
        if start < stop:
            rotated = [*values[c + first :], *values[: c + first]]
            reduce([value[start:stop] for value in rotated], op, chain, total[start:stop])
    return total


def _combine_short_chunks(
    table: Array, offsets: Sequence[int], op: np.ufunc, first: int, total: Array
) -> Array:
    """All chunks together, one step of the ring at a time: p calls instead of p² for p short chunks.

    ``table`` is the ranks' buffers end to end, so ``count`` further on is the same element of the next rank,
    and wrapping at the end goes from the last rank to rank 0.
    """
    count, chunk = total.size, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    where = (chunk + first) * count + np.arange(count)
    table.take(where, mode="wrap", out=total)
    for _ in range(len(offsets) - 2):
        where += count
        op(total, table.take(where, mode="wrap"), out=total)
    return total
