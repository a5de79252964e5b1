"""Where the elements of a datatype lie in memory (MPI's type map), in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Run(NamedTuple):
    """Bytes that lie together, `nbytes` of them; or a grid of such pieces: the rows of a part of a matrix.

    The grid has `counts` pieces in each dimension, the last one varying fastest, `steps` bytes apart.
    """

    offset: int
    nbytes: int
    counts: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(slots=True)
class Block:
    """`count` elements of a layout, one extent apart, from `offset` on."""

    offset: int
    count: int
    layout: Layout


@dataclass(frozen=True, eq=False)
class Layout:
    """Where one element's data lie.

    Attributes
    ----------
    size : int
        Bytes of data.
    lb, ub : int
        Where the element begins and ends; the next one begins at `ub - lb`, the extent.
    true_lb, true_ub : int
        Where its data begin and end.
    alignment : int
        Of the strictest basic type in it.
    dtype : numpy.dtype or None
        Of its basic elements; None if they are of several.
    basics : int
        How many basic elements.
    blocks : tuple of Block
        What it is made of, in the order in which data are sent; none for a basic type.
    """

    size: int
    lb: int
    ub: int
    true_lb: int
    true_ub: int
    alignment: int
    dtype: np.dtype[Any] | None
    basics: int
    blocks: tuple[Block, ...] = ()

    @property
    def extent(self) -> int:
        """How far apart elements lie."""
        return self.ub - self.lb

    @cached_property
    def dense(self) -> bool:
        """Whether elements lie without gaps, in the order in which they are sent."""
        return self.extent == self.size and self.runs in ((), (Run(0, self.size),))

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The bytes of one element, in the order in which they are sent."""
        if not self.blocks:
            return (Run(0, self.size),) if self.size else ()
        merged: list[Run] = []
        for block in self.blocks:
            for run in _runs_of(block):
                last = merged[-1] if merged else run
                if merged and not (last.counts or run.counts) and last.offset + last.nbytes == run.offset:
                    merged[-1] = Run(last.offset, last.nbytes + run.nbytes)
                else:
                    merged.append(run)
        return tuple(merged)

    def gather(self, memory: Bytes, start: int, count: int) -> Bytes:
        """Return the data of `count` elements from byte `start` of `memory` on, one behind another."""
        data = np.empty((count, self.size), np.uint8)
        for pieces, in_data in self._pieces(memory, start, data):
            in_data[...] = pieces
        return data.reshape(-1)

    def scatter(self, memory: Bytes, start: int, data: Bytes) -> None:
        """Put data, one behind another, where elements from byte `start` of `memory` on have theirs.

        The data may end within an element.
        """
        count, rest = divmod(data.size, self.size)
        whole = data[: count * self.size].reshape(count, self.size)
        for pieces, in_data in self._pieces(memory, start, whole):
            pieces[...] = in_data
        if rest:
            at = start + count * self.extent
            last = self.gather(memory, at, 1)
            last[:rest] = data[count * self.size :]
            self.scatter(memory, at, last)

    def span(self, count: int) -> tuple[int, int]:
        """Return where the data of `count` elements begin and end, from where the first element stands."""
        if not count or not self.size:
            return 0, 0
        last = (count - 1) * self.extent
        return self.true_lb + min(0, last), self.true_ub + max(0, last)

    def _pieces(self, memory: Bytes, start: int, data: Bytes) -> Iterator[tuple[Bytes, Bytes]]:
        """Yield each run as it lies in memory and in `data`, which has a row for each element."""
        count, column = len(data), 0
        for run in self.runs if count else ():
            shape = count, *run.counts, run.nbytes
            steps = self.extent, *run.steps, 1
            width = prod(shape[1:])
            yield (
                np.ndarray(shape, np.uint8, memory, start + run.offset, steps),
                data[:, column : column + width].reshape(shape),
            )
            column += width


def basic(dtype: np.dtype[Any]) -> Layout:
    """Return the layout of a basic type."""
    size = dtype.itemsize
    return Layout(size, 0, size, 0, size, dtype.alignment, dtype, 1)


def compound(blocks: Sequence[Block], *, padded: bool = False) -> Layout:
    """Return the layout of blocks of other types; `padded` to its alignment, as C's structs are."""
    blocks = tuple(block for block in blocks if block.count)
    bounds = [
        _bounds(block.offset, block.count, b.lb, b.ub, b.extent) for block in blocks if (b := block.layout)
    ]
    true = [
        _bounds(block.offset, block.count, b.true_lb, b.true_ub, b.extent)
        for block in blocks
        if (b := block.layout).size
    ]
    lb, ub = min((low for low, _ in bounds), default=0), max((high for _, high in bounds), default=0)
    alignment = max((block.layout.alignment for block in blocks), default=1)
    if padded:
        ub += -(ub - lb) % alignment
    dtypes = {block.layout.dtype for block in blocks}
    return Layout(
        size=sum(block.count * block.layout.size for block in blocks),
        lb=lb,
        ub=ub,
        true_lb=min((low for low, _ in true), default=0),
        true_ub=max((high for _, high in true), default=0),
        alignment=alignment,
        dtype=dtypes.pop() if len(dtypes) == 1 else None,
        basics=sum(block.count * block.layout.basics for block in blocks),
        blocks=blocks,
    )


def _bounds(offset: int, count: int, low: int, high: int, extent: int) -> tuple[int, int]:
    last = (count - 1) * extent
    return offset + low + min(0, last), offset + high + max(0, last)


def _runs_of(block: Block) -> Iterator[Run]:
    offset, count, layout = block.offset, block.count, block.layout
    if layout.dense:
        if layout.size:
            yield Run(offset, count * layout.size)
    elif len(layout.runs) == 1 and count > 1:
        (run,) = layout.runs
        yield Run(offset + run.offset, run.nbytes, (count, *run.counts), (layout.extent, *run.steps))
    else:
        for i in range(count):
            for run in layout.runs:
                yield run._replace(offset=offset + i * layout.extent + run.offset)
