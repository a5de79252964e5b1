"""mpi4py's buffer specifications, resolved into a `Buffer`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import BadBufferError, error
from tpsim.comm.virtual.data.marks import BottomType
from tpsim.comm.virtual.data.memory import at_address
from tpsim.comm.virtual.data.parts import Buffer, Part
from tpsim.comm.virtual.data.rows import row
from tpsim.comm.virtual.data.type_table import as_datatype, datatype_of

__all__ = ["Buffer", "buffer", "vector_buffer", "w_buffer"]

_NOTHING = np.empty(0, np.uint8)


def buffer(spec: Any, call: str, *, writable: bool = False, blocks: int = 1) -> Buffer:
    """Resolve a buffer specification: `blocks` parts of equal length, one behind another.

    Parameters
    ----------
    spec : array, bytes-like, or [data, count], [data, type], [data, count, type], …
        As mpi4py takes it; also [data, (count, displ), type] and [data, count, displ, type]. `count` is
        of one part, `displ` from the beginning, both in elements.
    call : str
        The call, for error messages.
    writable : bool
        Whether something will be received into it.
    blocks : int
        How many parts.
    """
    if type(spec) is np.ndarray and spec.dtype.isnative and (blocks <= 1 or not spec.size % blocks):
        return Buffer.of_row(row(spec, call, writable=writable), datatype_of(spec.dtype), blocks or 1)
    data, count, displ, type_ = _items(spec, call)
    memory, datatype = _memory(data, type_, call, writable=writable)
    length = memory.nbytes
    start = 0 if displ is None else _displacement(displ, datatype, length, call)
    if count is not None:
        count = index(count)
        if count < 0:
            raise ValueError(f"{call}: count {count} is negative; pass 0 or more")
        if count and data is None:
            raise ValueError(f"{call}: count {count} of no data (None); pass the array, or count 0")
    else:
        count = _whole(length - start, datatype, call)
        if blocks > 1:
            if count % blocks:
                raise ValueError(
                    f"{call}: {count} elements can't be cut into {blocks} equal blocks; "
                    f"pad to a multiple of {blocks}"
                )
            count //= blocks
    return _cut(data, memory, start, [(i * count, count) for i in range(max(blocks, 1))], datatype, call)


def vector_buffer(spec: Any, call: str, blocks: int, *, writable: bool = False) -> Buffer:
    """Resolve the specification of a v form: parts of their own lengths, each at its own place.

    Parameters
    ----------
    spec : array, or [data, counts], [data, (counts, displs)], [data, counts, displs, type], …
        `displs` are in elements from the beginning; by default, parts lie one behind another.
    """
    data, counts, displs, type_ = _items(spec, call, vector=True)
    memory, datatype = _memory(data, type_, call, writable=writable)
    if counts is None:
        whole = _whole(memory.nbytes, datatype, call)
        counts = [whole // blocks + (whole % blocks > i) for i in range(blocks)]
    else:
        counts = _integers(counts, blocks, "counts", call)
    if displs is None:
        displs = [sum(counts[:i]) for i in range(blocks)]
    elif (stride := _integer(displs)) is not None:
        displs = [stride * i for i in range(blocks)]
    else:
        displs = _integers(displs, blocks, "displacements", call)
    return _cut(data, memory, 0, list(zip(displs, counts, strict=True)), datatype, call)


def w_buffer(spec: Any, call: str, blocks: int, *, writable: bool = False) -> Buffer:
    """Resolve the specification of a w form: parts of their own lengths, types, and places in bytes.

    Parameters
    ----------
    spec : [data, types], [data, (counts, displs), types] or [data, counts, displs, types]
        Without counts, each part is one element of its type, counted from the beginning.
    """
    items = list(spec)
    counts: Any = None
    displs: Any = None
    if len(items) == 2:
        data, types = items
    elif len(items) == 3:
        data, (counts, displs), types = items
    elif len(items) == 4:
        data, counts, displs, types = items
    else:
        raise ValueError(f"{call}: {len(items)} items; pass [data, counts, displacements, types]")
    if isinstance(data, BottomType) and (counts is None or displs is None):
        raise ValueError(
            f"{call}: BOTTOM needs counts and displacements; pass [BOTTOM, counts, displs, types]"
        )
    counts = [1] * blocks if counts is None else _integers(counts, blocks, "counts", call)
    displs = [0] * blocks if displs is None else _integers(displs, blocks, "displacements", call)
    datatypes = [_kept(type_) for type_ in types]
    if len(datatypes) != blocks:
        raise ValueError(f"{call}: {len(datatypes)} types for {blocks} ranks; pass {blocks}")
    parts = [Part(*part) for part in zip(displs, counts, datatypes, strict=True)]
    if isinstance(data, BottomType):
        return _anywhere(parts)
    memory = _NOTHING if data is None else row(data, call, writable=writable).view(np.uint8)
    for part in parts:
        _check_inside(part, memory.nbytes, call)
    return Buffer(memory, parts)


def _items(spec: Any, call: str, *, vector: bool = False) -> tuple[Any, Any, Any, Any]:
    """Return (data, count, displacement, type) of a specification; None for what isn't given."""
    if not isinstance(spec, list | tuple):
        return spec, None, None, None
    data, count, displ, type_ = spec[0] if spec else None, None, None, None
    several = tuple if vector else (tuple, list)
    if len(spec) == 2:
        count = spec[1]
        if isinstance(count, Datatype | str) or hasattr(count, "tocode"):
            count, type_ = None, count
        elif isinstance(count, several):
            count, displ = count
    elif len(spec) == 3:
        _, count, type_ = spec
        if isinstance(count, several):
            count, displ = count
    elif len(spec) == 4:
        _, count, displ, type_ = spec
    else:
        raise ValueError(f"{call}: {len(spec)} items in a buffer specification; pass [data, count, type]")
    return data, count, displ, type_


def _memory(data: Any, type_: Any, call: str, *, writable: bool) -> tuple[NDArray[Any], Datatype]:
    """Return the memory as a 1-D array, and the type of its elements."""
    if data is None or isinstance(data, BottomType):
        return _NOTHING, _kept(type_)
    memory = row(data, call, writable=writable)
    if type_ is not None:
        return memory, _kept(type_)
    if not memory.dtype.isnative:
        raise BadBufferError(
            f"{call}: dtype {memory.dtype.str} has another byte order than this machine; "
            "pass array.astype(array.dtype.newbyteorder('='))"
        )
    return memory, datatype_of(memory.dtype)


def _kept(type_: Any) -> Datatype:
    """Return a handle of a type of our own: the program may free its own while the call is under way."""
    return Datatype._of(as_datatype(type_)._state)


def _displacement(displ: Any, datatype: Datatype, length: int, call: str) -> int:
    displ = index(displ)
    if displ < 0:
        raise ValueError(f"{call}: displacement {displ} is negative; pass 0 or more")
    start: int = displ * _positive_extent(datatype, call) if displ else 0
    if start > length:
        raise ValueError(
            f"{call}: displacement {displ} lies behind the buffer's {length // datatype.extent} elements; "
            "make it smaller, or the buffer longer"
        )
    return start


def _whole(length: int, datatype: Datatype, call: str) -> int:
    """Return how many elements fill `length` bytes."""
    if not length:
        return 0
    extent = _positive_extent(datatype, call)
    count, rest = divmod(length, extent)
    if rest:
        raise ValueError(
            f"{call}: {length} bytes are no whole number of elements of {extent} bytes ({datatype.name}); "
            "pass the count"
        )
    return count


def _positive_extent(datatype: Datatype, call: str) -> int:
    if not datatype:
        raise ValueError(f"{call}: the datatype is null; pass one of MPI's, such as MPI.DOUBLE")
    if datatype.extent <= 0:
        raise ValueError(
            f"{call}: elements of {datatype.name or 'this type'} lie {datatype.extent} bytes apart, so they "
            "can't be counted off; pass the count, without a displacement"
        )
    return datatype.extent


def _integers(values: Any, blocks: int, what: str, call: str) -> list[int]:
    if (same := _integer(values)) is not None:
        return [same] * blocks
    numbers = [index(value) for value in values]
    if len(numbers) != blocks:
        raise ValueError(f"{call}: {len(numbers)} {what} for {blocks} ranks; pass {blocks}")
    return numbers


def _integer(value: Any) -> int | None:
    """Return an integer of Python's or NumPy's; None if it is none, such as an array of several."""
    try:
        return index(value)
    except TypeError:
        return None


def _cut(
    data: Any,
    memory: NDArray[Any],
    start: int,
    pieces: list[tuple[int, int]],
    datatype: Datatype,
    call: str,
) -> Buffer:
    """Return the buffer of (displacement, count) pieces of a memory, in elements from byte `start` on."""
    if not datatype:
        raise error("ERR_TYPE", f"{call}: the datatype is null; pass one of MPI's, such as MPI.DOUBLE")
    layout = datatype.layout
    parts = [Part(start + displ * layout.extent, count, datatype) for displ, count in pieces]
    if isinstance(data, BottomType):
        return _anywhere(parts)
    for part in parts:
        _check_inside(part, memory.nbytes, call)
    in_line = all(a + n == b for (a, n), (b, _) in pairwise(pieces))
    equal = len({count for _, count in pieces}) == 1
    if not (layout.dense and layout.dtype is not None and in_line and equal):
        return Buffer(memory.view(np.uint8), parts)
    whole, nbytes = memory, sum(part.count for part in parts) * layout.size
    if start or memory.dtype != layout.dtype or memory.nbytes != nbytes:
        first = parts[0].start
        whole = memory.view(np.uint8)[first : first + nbytes].view(layout.dtype)
    return Buffer(memory, parts, whole)


def _anywhere(parts: list[Part]) -> Buffer:
    """Return the buffer of parts at absolute addresses (BOTTOM)."""
    spans = [
        (part.start + a, part.start + b) for part in parts for a, b in [part.datatype.layout.span(part.count)]
    ]
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    return Buffer(at_address(low, high - low), [replace(part, start=part.start - low) for part in parts])


def _check_inside(part: Part, length: int, call: str) -> None:
    low, high = part.datatype.layout.span(part.count)
    if part.count and (part.start + low < 0 or part.start + high > length):
        extent = part.datatype.extent
        raise ValueError(
            f"{call}: count {part.count} asks for bytes {part.start + low} to {part.start + high}, and the "
            f"buffer holds {length} ({length // extent if extent else 0} elements); "
            "make the buffer longer, or the count smaller"
        )
