"""How much data a buffer holds, and whether data fit into it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import CollectiveMismatchError
from tpsim.comm.virtual.collective.part import Block, Part
from tpsim.comm.virtual.data.buffers import Buffer
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import error

_BYTES = np.dtype(np.uint8)


def unit_of(datatype: Datatype) -> int:
    """Return how many packed elements one element of a type is: bytes, where it is made of several types."""
    layout = datatype.layout
    return layout.size if layout.dtype is None else layout.size // layout.dtype.itemsize


def sizes_of(buffer: Buffer) -> list[int]:
    """Return how many packed elements are in each block."""
    row = buffer.row
    if row is not None:
        blocks = len(buffer.parts)
        return [row.size // blocks] * blocks
    return [part.count * unit_of(part.datatype) for part in buffer.parts]


def elements_of(buffer: Buffer, block: Block = None) -> int:
    """Return how many packed elements are in one block, or in all."""
    row = buffer.row
    if row is not None:
        return row.size if block is None else row.size // len(buffer.parts)
    if block is None:
        return sum(sizes_of(buffer))
    part = buffer.parts[block]
    return part.count * unit_of(part.datatype)


def dtype_of(buffer: Buffer, block: Block = None) -> np.dtype[Any]:
    """Return the dtype in which a block is packed."""
    if buffer.row is not None:
        return buffer.row.dtype
    return buffer.parts[block or 0].datatype.layout.dtype or _BYTES


def check_own(call: str, sent: Buffer, received: Buffer, elements: int) -> None:
    """Check that a rank's two buffers go together: `elements` are to be received.

    Raises
    ------
    ArgumentError
        If they don't.
    """
    room, dtype = elements_of(received), dtype_of(sent)
    if room != elements or dtype_of(received) != dtype:
        raise error(
            "ERR_COUNT" if room != elements else "ERR_TYPE",
            f"{call}: {elements_of(sent)} × {dtype} sent gives {elements} × {dtype}, and the receive buffer "
            f"is {room} × {dtype_of(received)}; make it {elements} × {dtype}",
        )


def check_arrived(call: str, sender: Part, data: NDArray[Any], receiver: Part, place: Block = None) -> None:
    """Check that what one rank sends is exactly what another has room for.

    Raises
    ------
    CollectiveMismatchError
        If it isn't.
    """
    elements, dtype = elements_of(receiver.recv, place), dtype_of(receiver.recv, place)
    if data.size != elements or (data.dtype != dtype and elements):
        raise CollectiveMismatchError(
            f"{call}: rank {sender.name} sends {data.size} × {data.dtype}, and rank {receiver.name} receives "
            f"{elements} × {dtype} from it; make counts and types equal on both sides"
        )
