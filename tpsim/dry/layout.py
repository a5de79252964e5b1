"""How entries lie in memory: strides of new arrays, and which reshapes are views. NumPy's own rules.

Layouts matter to a dry run because a reshape of contiguous entries costs nothing, and of others a copy.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Strides = tuple[int, ...]
Layout = tuple[Shape, Strides]


@lru_cache(maxsize=4096)
def c_strides(shape: Shape, itemsize: int) -> Strides:
    """Return the strides, in bytes, of entries one after the other, the last axis fastest."""
    return in_order(shape, itemsize, range(len(shape)))


def in_order(shape: Shape, itemsize: int, order: Sequence[int]) -> Strides:
    """Return the strides of entries one after the other, axes from the slowest to the fastest."""
    strides, step = [itemsize] * len(shape), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis] or 1
    return tuple(strides)


@lru_cache(maxsize=4096)
def is_contiguous(shape: Shape, strides: Strides, itemsize: int, order: str = "C") -> bool:
    """Whether entries lie one after the other, the last ("C") or the first ("F") axis fastest."""
    if 0 in shape:
        return True
    axes = range(len(shape))
    step = itemsize
    for axis in reversed(axes) if order == "C" else axes:
        if shape[axis] != 1:
            if strides[axis] != step:
                return False
            step *= shape[axis]
    return True


@lru_cache(maxsize=4096)
def kept_order(shape: Shape, itemsize: int, operands: tuple[Layout, ...]) -> Strides:
    """Return the strides of an elementwise result: NumPy's order "K" follows the operands where they agree.

    Parameters
    ----------
    shape : tuple of int
        The result's.
    itemsize : int
    operands : tuple of (shape, strides)
        To be broadcast to it; axes that are broadcast have no say.
    """
    steps = []
    for own, strides in operands:
        broadcast: Steps = [None] * (len(shape) - len(own))
        steps.append(broadcast + [step or None for step in _steps(own, strides)])
    order = _sorted_axes(reversed(range(len(shape))), steps, outwards=True)
    return in_order(shape, itemsize, order[::-1])


Steps = list[int | None]
"""How far apart the entries along each axis are; None where an operand has no say."""


def _steps(shape: Shape, strides: Strides) -> Steps:
    return [abs(stride) if n != 1 else None for n, stride in zip(shape, strides, strict=True)]


def _sorted_axes(axes: Iterable[int], steps: list[Steps], *, outwards: bool) -> list[int]:
    """Sort axes by their steps, growing where sorted outwards and shrinking otherwise, as NumPy does.

    A stable insertion sort in which axes that no operand compares pass by one another: the order in which
    they come decides, too. Of two axes on which operands disagree, the earlier one stays slower.
    """
    order: list[int] = []
    for axis in axes:
        place = len(order)
        for at in reversed(range(len(order))):
            pairs = [(one[order[at]], one[axis]) for one in steps]
            swaps = [(b < a) if outwards else (b > a) for a, b in pairs if a is not None and b is not None]
            if not swaps:
                continue
            if not all(swaps):
                break
            place = at
        order.insert(place, axis)
    return order


@lru_cache(maxsize=4096)
def like_order(shape: Shape, strides: Strides, itemsize: int) -> Strides:
    """Return the strides of a copy in order "K": axes keep their ranking, gaps go."""
    if is_contiguous(shape, strides, itemsize):
        return c_strides(shape, itemsize)
    return in_order(shape, itemsize, sorted(range(len(shape)), key=lambda axis: -abs(strides[axis])))


@lru_cache(maxsize=4096)
def joined_order(shape: Shape, itemsize: int, operands: tuple[Layout, ...]) -> Strides:
    """Return the strides of a concatenation, which also follows its operands where they agree."""
    steps = [_steps(*operand) for operand in operands]
    return in_order(shape, itemsize, _sorted_axes(range(len(shape)), steps, outwards=False))


@lru_cache(maxsize=4096)
def view_strides(shape: Shape, strides: Strides, itemsize: int, new: Shape) -> Strides | None:
    """Return the strides under which the same memory has the shape `new`, or None if it takes a copy.

    Axes are matched in groups of equal size; a group is a view if its own axes lie one after the other.
    """
    if is_contiguous(shape, strides, itemsize):
        return c_strides(new, itemsize)
    old = [(n, stride) for n, stride in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    at = to = 0
    while at < len(old) and to < len(new):
        group, count = at + 1, old[at][0]
        new_group, new_count = to + 1, new[to]
        while count != new_count:
            if new_count < count:
                new_count *= new[new_group]
                new_group += 1
            else:
                count *= old[group][0]
                group += 1
        for (_, stride), (n, inner) in zip(old[at : group - 1], old[at + 1 : group], strict=True):
            if stride != n * inner:
                return None
        step, steps = old[group - 1][1], []
        for n in reversed(new[to:new_group]):
            steps.append(step)
            step *= n
        result += reversed(steps)
        at, to = group, new_group
    return (*result, *[result[-1] if result else itemsize] * (len(new) - to))


@lru_cache(maxsize=4096)
def bounds(shape: Shape, strides: Strides, itemsize: int) -> tuple[int, int]:
    """Return the first byte and the end of the last one, counted from the entry [0, …, 0]."""
    if 0 in shape:
        return 0, 0
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + itemsize


def resolve_shape(size: int, shape: Sequence[int]) -> Shape | None:
    """Return `shape` with its −1 filled in, or None if `size` entries don't have it."""
    known = [n for n in shape if n != -1]
    if len(known) == len(shape):
        return tuple(shape) if math.prod(shape) == size and all(n >= 0 for n in shape) else None
    rest = math.prod(known)
    if len(shape) - len(known) > 1 or rest <= 0 or size % rest or any(n < 0 for n in known):
        return None
    return tuple(size // rest if n == -1 else n for n in shape)


def as_shape(shape: Any) -> Shape:
    """Return a shape from a tuple or list of whole numbers, or from one."""
    if is_whole_number(shape):
        return (operator.index(shape),)
    return tuple(map(operator.index, shape))


def is_whole_number(value: Any) -> bool:
    """Whether a value is an int, Python's or NumPy's, and no array."""
    return isinstance(value, int | np.integer)
