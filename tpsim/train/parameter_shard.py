"""A stretch of a parameter's entries, as a parameter in its own right.

Fully sharded ranks cut parameters anywhere, in the middle of a row too. A stretch of a matrix is thus up to
three boxes of it, and each box may cross several of the parameter's pieces::

    [ · · · · 0 1 ]     the end of a row
    [ 2 3 4 5 6 7 ]     whole rows
    [ 8 9 · · · · ]     the beginning of one

A `ParameterShard` knows the place of each of these parts. So whatever asks a `Parameter` for its pieces (sums
over replicas, norms, optimizers, checkpoints) takes a shard as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tpsim.nn import Parameter, Piece

Array = NDArray[Any]
Box = tuple[slice, ...]


class Part(NamedTuple):
    """Where a box and a piece of a parameter have entries in common."""

    piece: Piece
    place: Box  # in the whole tensor
    stretch: slice  # of the shard: the box, which has this shape,
    shape: tuple[int, ...]
    within: Box  # and here the piece in it


class ParameterShard(Parameter):
    """Entries `start` to `stop` of this rank's part of a parameter, flat and in C order.

    Parameters
    ----------
    parameter : Parameter
        Its entries are copied.
    start, stop : int
        Alike, there are none of them.

    Attributes
    ----------
    data, grad : array
        [stop − start].
    pieces : tuple of Piece
        One for each part, so that a piece of `parameter` may be there three times, or not at all.
    """

    def __init__(self, parameter: Parameter, start: int, stop: int) -> None:
        self.whole_shape, self.axis = parameter.whole_shape, parameter.axis
        self.data = parameter.data.reshape(-1)[start:stop].copy()
        self.grad, self.summed = None, False
        self._parts = tuple(_parts(parameter, start, stop))
        self.pieces = tuple(part.piece for part in self._parts)
        self._sharding = f"{parameter.sharding()}; {start}:{stop} of {parameter.data.size}"

    def sharding(self) -> str:
        """Return in words how the parameter is cut, for tables."""
        return self._sharding

    def take(self, whole: Array) -> Array:
        """Return a copy of the shard of a whole tensor; padding is 0."""
        if whole.shape != self.whole_shape:
            raise ValueError(
                f"parameter of whole shape {self.whole_shape}: got an array of shape {whole.shape}; pass the "
                "whole, uncut tensor"
            )
        taken = np.zeros_like(self.data, dtype=whole.dtype)
        for place, part in self.placed(taken):
            part[...] = whole[place]
        return taken

    def places(self) -> Iterator[Box]:
        """Yield, for each part, where it lies in the whole tensor."""
        for part in self._parts:
            yield part.place

    def parts_of(self, local: Array) -> list[Array]:
        """Return views of a flat array (`data` or `grad`), one for each part, without padding."""
        return [local[part.stretch].reshape(part.shape)[part.within] for part in self._parts]


def _parts(parameter: Parameter, start: int, stop: int) -> Iterator[Part]:
    """Yield the parts of a parameter that lie between two of its entries, in C order."""
    axis, offset = parameter.axis, 0
    for box in boxes(parameter.data.shape, start, stop):
        shape = tuple(side.stop - side.start for side in box)
        size, along, begin = math.prod(shape), box[axis], 0
        for piece, whole in zip(parameter.pieces, parameter.places(), strict=True):
            first, last = max(along.start, begin), min(along.stop, begin + piece.real)
            if first < last:
                moved = whole[axis].start - begin
                place, within = list(box), [slice(None)] * len(box)
                place[axis] = slice(first + moved, last + moved)
                within[axis] = slice(first - along.start, last - along.start)
                yield Part(piece, tuple(place), slice(offset, offset + size), shape, tuple(within))
            begin += piece.local
        offset += size


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Box]:
    """Yield the boxes that entries `start` to `stop` of a vector or a matrix are, in C order.

    Examples
    --------
    >>> for rows, columns in boxes((4, 6), 3, 14):
    ...     print(rows.start, rows.stop, "|", columns.start, columns.stop)
    0 1 | 3 6
    1 2 | 0 6
    2 3 | 0 2
    """
    *vector, width = shape
    while start < stop:
        row, column = divmod(start, width)
        rows = max(1, (stop - start) // width) if column == 0 else 1
        end = min(width, column + stop - start)
        yield (*(slice(row, row + rows) for _ in vector), slice(column, end))
        start += rows * width if rows > 1 else end - column
