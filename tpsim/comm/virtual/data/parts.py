"""`Buffer`: which elements of which memory a call sends or receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.datatypes import Datatype

Array = NDArray[Any]


@dataclass(slots=True)
class Part:
    """One rank's elements of a buffer."""

    start: int
    """Where the first one stands, in bytes from the beginning of the memory."""
    count: int
    datatype: Datatype


class EvenParts(Sequence[Part]):
    """Parts of equal length, one behind another: made only when asked for, as there may be a thousand."""

    __slots__ = ("_blocks", "_count", "_datatype")

    def __init__(self, count: int, datatype: Datatype, blocks: int) -> None:
        self._count = count
        self._datatype = datatype
        self._blocks = blocks

    def __len__(self) -> int:
        return self._blocks

    def __getitem__(self, i: Any) -> Any:
        """Return part `i`."""
        if not 0 <= i < self._blocks:
            raise IndexError(i)
        return Part(i * self._count * self._datatype.extent, self._count, self._datatype)


class Buffer:
    """Elements of some memory: one part for each rank that it is cut into.

    Attributes
    ----------
    count : int
        Elements of the first part (of each, but for the v and w forms).
    datatype : Datatype
        Their type.
    row : array or None
        All parts in one 1-D array, a view of the memory; None where their data don't lie so.
    """

    __slots__ = ("_blocks", "_memory", "_parts", "count", "datatype", "row")

    def __init__(self, memory: Array, parts: Sequence[Part], row: Array | None = None) -> None:
        self._memory = memory  # 1-D; uint8 where there is no row
        self.row = row
        self._parts: Sequence[Part] | None = parts
        self._blocks = len(parts)
        self.count = parts[0].count
        self.datatype = parts[0].datatype

    @classmethod
    def of_row(cls, row: Array, datatype: Datatype, blocks: int) -> Self:
        """Return the buffer of a whole 1-D array, in parts of equal length. (Nearly all buffers are such.)"""
        buffer = object.__new__(cls)
        buffer._memory = buffer.row = row
        buffer._parts = None  # few calls ask for them
        buffer._blocks = blocks
        buffer.count = row.size // blocks
        buffer.datatype = datatype
        return buffer

    @property
    def parts(self) -> Sequence[Part]:
        """One for each rank."""
        if self._parts is None:
            self._parts = EvenParts(self.count, self.datatype, self._blocks)
        return self._parts

    @property
    def nbytes(self) -> int:
        """Bytes of data of all parts."""
        if self.row is not None:
            return self.row.nbytes
        return sum(part.count * part.datatype.layout.size for part in self.parts)

    def pack(self, block: int | None = None) -> Array:
        """Return the data of one part, or of all behind one another: 1-D, a view where memory allows.

        Their dtype is that of the basic elements, or uint8 where these are of several.
        """
        if self.row is not None:
            return self.row if block is None else self.row[self._bounds(block)]
        if block is not None:
            return self._gather(self.parts[block])
        packed = [self._gather(part) for part in self.parts]
        return packed[0] if len(packed) == 1 else np.concatenate(packed)

    def unpack(self, values: Array, block: int | None = None) -> None:
        """Write data back to where `pack` takes them from. They may be fewer."""
        if self.row is not None:
            target = self.row if block is None else self.row[self._bounds(block)]
            if values.dtype == target.dtype:
                target[: values.size] = values
            else:
                raw = values.view(np.uint8)
                target.view(np.uint8)[: raw.size] = raw
            return
        data = np.ascontiguousarray(values).view(np.uint8)
        for part in self.parts if block is None else (self.parts[block],):
            layout = part.datatype.layout
            nbytes = part.count * layout.size
            if data.size and nbytes:
                layout.scatter(self._memory, part.start, data[:nbytes])
            data = data[nbytes:]

    def _bounds(self, block: int) -> slice:
        return slice(block * self.count, (block + 1) * self.count)

    def _gather(self, part: Part) -> Array:
        layout = part.datatype.layout
        data = layout.gather(self._memory, part.start, part.count)
        return data if layout.dtype is None else data.view(layout.dtype)
