"""Binomial trees: lg p rounds, and each rank sends whole buffers. Good for short messages.

Rank r hangs on r without its lowest set bit. With p = 8::

    0 ─┬─ 1
       ├─ 2 ─── 3
       └─ 4 ─┬─ 5
             └─ 6 ─── 7

A branch is an unbroken run of ranks, so its chunks lie side by side in the buffer.

References
----------
Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in MPICH",
International Journal of High Performance Computing Applications 19(1).
"""

from collections.abc import Sequence

import numpy as np

from tpsim.comm.algorithms.chunks import around, split
from tpsim.comm.algorithms.fused import neighbours, reduce
from tpsim.comm.algorithms.port import Array, Port, Steps, recv, send


def all_reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Reduce up the tree to rank 0, then broadcast down it.

    Cost: 2⌈lg p⌉(α + nβ) + ⌈lg p⌉·nγ.
    """
    yield from reduce_up(port, buffer, op)
    yield from broadcast(port, buffer, root=0)


def reduce_scatter(port: Port, blocks: Sequence[Array], op: np.ufunc) -> Steps:
    """Reduce up the tree to rank 0, then scatter down it.

    Cost: ⌈lg p⌉(2α + nβ + nγ) + n(p−1)/p·β.
    """
    whole = np.concatenate(blocks)
    yield from reduce_up(port, whole, op)
    yield from scatter(port, whole, around(blocks), root=0)
    blocks[port.rank][...] = split(whole, around(blocks))[port.rank]


def all_gather(port: Port, blocks: Sequence[Array]) -> Steps:
    """Gather up the tree to rank 0, then broadcast down it.

    Cost: ⌈lg p⌉(2α + nβ) + n(p−1)/p·β.
    """
    whole = np.concatenate(blocks)
    yield from gather(port, whole, around(blocks))
    yield from broadcast(port, whole, root=0)
    for block, full in zip(blocks, split(whole, around(blocks)), strict=True):
        block[...] = full


def branch(place: int, p: int) -> tuple[int, range, list[range]]:
    """The parent of ``place``, the places of its branch, and those of each child's branch, nearest first."""
    span = place & -place or 1 << (p - 1).bit_length()  # places on this branch, if the tree were full
    children = [range(place + (1 << i), min(place + (2 << i), p)) for i in range(span.bit_length() - 1)]
    return place - span, range(place, min(place + span, p)), [child for child in children if child]


def reduce_up(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Leave the reduction of all buffers in rank 0's; a child is added after what lies before it."""
    parent, _, children = branch(port.rank, port.size)
    inbox = np.empty_like(buffer)
    for child in children:
        yield recv(port, inbox, child[0])
        op(buffer, inbox, out=buffer)
    if port.rank:
        yield send(port, buffer, parent)


def broadcast(port: Port, buffer: Array, root: int) -> Steps:
    """Down the tree, the child with most below it first; places in the tree are counted from the root.

    Cost: ⌈lg p⌉(α + nβ).
    """
    p, place = port.size, (port.rank - root) % port.size
    parent, _, children = branch(place, p)
    if place:
        yield recv(port, buffer, (parent + root) % p)
    for child in reversed(children):
        yield send(port, buffer, (child[0] + root) % p)


def scatter(port: Port, buffer: Array, offsets: Sequence[int], root: int) -> Steps:
    """Down the tree, to each child the chunks of its branch."""
    p, place = port.size, (port.rank - root) % port.size
    parent, here, children = branch(place, p)
    if place:
        yield recv(port, _chunks(buffer, offsets, here), (parent + root) % p)
    for child in reversed(children):
        yield send(port, _chunks(buffer, offsets, child), (child[0] + root) % p)


def gather(port: Port, buffer: Array, offsets: Sequence[int]) -> Steps:
    """Up the tree to rank 0: `scatter` backwards."""
    parent, here, children = branch(port.rank, port.size)
    for child in children:
        yield recv(port, _chunks(buffer, offsets, child), child[0])
    if port.rank:
        yield send(port, _chunks(buffer, offsets, here), parent)


def _chunks(buffer: Array, offsets: Sequence[int], places: range) -> Array:
    return buffer[offsets[places.start] : offsets[places.stop]]


def combine(values: Sequence[Array], op: np.ufunc) -> Array:
    """What `all_reduce` leaves on every rank, from all ranks' buffers."""
    return reduce(values, op, neighbours)


def combine_scatter(values: Sequence[Array], offsets: Sequence[int], op: np.ufunc) -> list[Array]:
    """What `reduce_scatter` leaves on each rank, from all ranks' buffers."""
    return split(combine(values, op), offsets)
