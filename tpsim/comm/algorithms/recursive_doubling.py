"""Recursive doubling: in each round a rank swaps with a partner twice as far away, and knows twice as much.

With p = 4, who has heard of whom::

    round 1   0 ⇄ 1   2 ⇄ 3     pairs
    round 2   0 ⇄ 2   1 ⇄ 3     all

Recursive halving is the same backwards: partners come closer, and each keeps half of what it had. Other
numbers of ranks are folded to a power of two first.

References
----------
Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in MPICH",
International Journal of High Performance Computing Applications 19(1).
"""

from collections.abc import Sequence

import numpy as np

from tpsim.comm.algorithms import tree
from tpsim.comm.algorithms.chunks import around, split
from tpsim.comm.algorithms.fold import Fold
from tpsim.comm.algorithms.fused import halves, neighbours, reduce
from tpsim.comm.algorithms.port import Array, Port, Steps, recv, send

broadcast = tree.broadcast  # the ranks that know double in each round: a binomial tree


def all_reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Swap whole buffers with lg p partners, and add.

    Cost: lg p·(α + nβ + nγ); folding adds 2α + 2nβ + nγ.
    """
    fold, inbox = Fold(port.size), np.empty_like(buffer)
    yield from fold.reduce_in(port, buffer, op)
    if (seat := fold.seat(port.rank)) is not None:
        for distance in fold.distances():
            partner = fold.rank(seat ^ distance)
            yield recv(port, inbox, partner) + send(port, buffer, partner)
            add_in_order(op, buffer, inbox, port.rank < partner)
    yield from fold.hand_back(port, buffer)


def reduce_scatter(port: Port, blocks: Sequence[Array], op: np.ufunc) -> Steps:
    """Recursive halving.

    Cost: lg p·α + n(p−1)/p·(β + γ); folding adds 2α + n(1 + 1/p)β + nγ.
    """
    fold, offsets, whole = Fold(port.size), around(blocks), np.concatenate(blocks)
    parts = split(whole, offsets)
    yield from fold.reduce_in(port, whole, op)
    yield from halve(port, fold, whole, fold.edges(offsets), op)
    yield from fold.hand_back(port, parts[port.rank - port.rank % 2])
    blocks[port.rank][...] = parts[port.rank]


def all_gather(port: Port, blocks: Sequence[Array]) -> Steps:
    """Recursive doubling of what a rank holds.

    Cost: lg p·α + n(p−1)/p·β; folding adds 2α + n(1 + 1/p)β.
    """
    fold, offsets, whole = Fold(port.size), around(blocks), np.concatenate(blocks)
    parts = split(whole, offsets)
    yield from fold.hand_in(port, parts[port.rank - port.rank % 2])
    yield from double(port, fold, whole, fold.edges(offsets))
    yield from fold.hand_back(port, whole)
    for block, part in zip(blocks, parts, strict=True):
        block[...] = part


def add_in_order(op: np.ufunc, mine: Array, theirs: Array, mine_first: bool) -> None:
    """Lower rank first, so that both partners compute the very same expression."""
    first, second = (mine, theirs) if mine_first else (theirs, mine)
    op(first, second, out=mine)


def halve(port: Port, fold: Fold, whole: Array, edges: Sequence[int], op: np.ufunc) -> Steps:
    """Reduce ``whole`` over the seats, each of which ends with its own block of it.

    With 4 seats, seat 1 keeps::

        | 0 | 1 | 2 | 3 |  ⇄ seat 3
        | 0 | 1 |          ⇄ seat 0
            | 1 |
    """
    if (seat := fold.seat(port.rank)) is not None:
        for distance in reversed(fold.distances()):
            partner = fold.rank(seat ^ distance)
            keep, give = (whole[part] for part in _halves(edges, seat, distance))
            inbox = np.empty_like(keep)
            yield recv(port, inbox, partner) + send(port, give, partner)
            add_in_order(op, keep, inbox, port.rank < partner)


def double(port: Port, fold: Fold, whole: Array, edges: Sequence[int]) -> Steps:
    """Gather the seats' blocks of ``whole``: `halve` backwards, with nothing to add."""
    if (seat := fold.seat(port.rank)) is not None:
        for distance in fold.distances():
            partner = fold.rank(seat ^ distance)
            have, get = (whole[part] for part in _halves(edges, seat, distance))
            yield recv(port, get, partner) + send(port, have, partner)


def _halves(edges: Sequence[int], seat: int, distance: int) -> tuple[slice, slice]:
    """The ``distance`` blocks in line with ``seat``, and those in line with its partner."""
    mine = seat & -distance  # seat, rounded down to a multiple of distance
    theirs = mine ^ distance
    return slice(edges[mine], edges[mine + distance]), slice(edges[theirs], edges[theirs + distance])


def combine(values: Sequence[Array], op: np.ufunc) -> Array:
    """What `all_reduce` leaves on every rank, from all ranks' buffers."""
    fold = Fold(len(values))
    return reduce(values, op, lambda block, op, out: neighbours(fold.combine(block, op), op, out))


def combine_scatter(values: Sequence[Array], offsets: Sequence[int], op: np.ufunc) -> list[Array]:
    """What `reduce_scatter` leaves on each rank, from all ranks' buffers."""
    return split(combine_halving(values, op), offsets)


def combine_halving(values: Sequence[Array], op: np.ufunc) -> Array:
    """What `halve` leaves of each element, after folding: farthest partners first."""
    fold = Fold(len(values))
    return reduce(values, op, lambda block, op, out: halves(fold.combine(block, op), op, out))
