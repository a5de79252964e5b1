"""The fused twin: the reduction that messages would compute, done at once where all ranks share a process.

Floating-point addition is not associative, so an algorithm *is* its order of additions. Here are the three
orders in use; the ranks' arrays go in, and the very bits that the messages give come out::

    chain         ((x0 + x1) + x2) + x3                 rank_order, and each chunk of ring
    neighbours    (x0 + x1) + (x2 + x3)                 tree, recursive_doubling
    halves        (x0 + x2) + (x1 + x3)                 rabenseifner, recursive halving
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from tpsim.comm.algorithms.port import Array

Order: TypeAlias = Callable[[Sequence[Array], np.ufunc, Array | None], Array]

BLOCK = 128 * 1024  # bytes of each rank reduced at a time, so that partial sums stay in cache


def reduce(values: Sequence[Array], op: np.ufunc, order: Order, out: Array | None = None) -> Array:
    """Reduce the ranks' arrays in the given order, which is the same for each element.

    Parameters
    ----------
    values : sequence of p arrays, each [count]
        Rank by rank; left as they are.
    op : numpy.ufunc
        ``np.add``, ``np.maximum``, …
    order : callable
        `chain`, `neighbours` or `halves`.
    out : array [count], optional
        Where the result goes; a new array without it.
    """
    first = values[0]
    if len(values) > 1 and first.nbytes <= BLOCK:
        return order(values, op, out)
    if out is None:
        out = np.empty_like(first)
    if len(values) == 1:
        out[...] = first
        return out
    step = BLOCK // first.itemsize
    for start in range(0, first.size, step):
        block = slice(start, start + step)
        order([value[block] for value in values], op, out[block])
    return out


def chain(values: Sequence[Array], op: np.ufunc, out: Array | None = None) -> Array:
    """One after another: each rank is added to the sum of those before it."""
    total: Array = op(values[0], values[1], out=out)
    for value in values[2:]:
        op(total, value, out=total)
    return total


def neighbours(values: Sequence[Array], op: np.ufunc, out: Array | None = None) -> Array:
    """Neighbours first, then neighbouring pairs, …; an odd one at the end waits for the next round."""
    while len(values) > 2:
        pairs = [op(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[2 * len(pairs) :]]
    total: Array = op(values[0], values[1], out=out)
    return total


def halves(values: Sequence[Array], op: np.ufunc, out: Array | None = None) -> Array:
    """The two halves of the ranks first, then their halves, …: a power of two of them."""
    while len(values) > 2:
        half = len(values) // 2
        values = [op(a, b) for a, b in zip(values[:half], values[half:], strict=True)]
    total: Array = op(values[0], values[1], out=out)
    return total
