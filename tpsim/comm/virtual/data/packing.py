"""Packing data into contiguous memory and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.rows import row
from tpsim.comm.virtual.data.type_state import TypeHandle

Bytes = NDArray[np.uint8]


class Packing(TypeHandle):
    """`Pack` and `Unpack`, in the machine's own form and in MPI's portable one ("external32")."""

    __slots__ = ()

    def Pack(self, inbuf: Any, outbuf: Any, position: int, comm: Any) -> int:
        """Put all elements of `inbuf` into `outbuf` from byte `position` on; return where they end."""
        return self._put("Pack", self._taken("Pack", inbuf), outbuf, position)

    def Unpack(self, inbuf: Any, position: int, outbuf: Any, comm: Any) -> int:
        """Fill `outbuf` with elements from byte `position` of `inbuf` on; return where they end."""
        data, end = self._cut("Unpack", inbuf, position, outbuf)
        self._fill(outbuf, "Unpack", data)
        return end

    def Pack_size(self, count: int, comm: Any) -> int:
        """Return how many bytes `count` elements take when packed."""
        return count * self.layout.size

    def Pack_external(self, datarep: str, inbuf: Any, outbuf: Any, position: int) -> int:
        """Put all elements of `inbuf` into `outbuf` in portable form."""
        data = self._swapped(datarep, "Pack_external", self._taken("Pack_external", inbuf))
        return self._put("Pack_external", data, outbuf, position)

    def Unpack_external(self, datarep: str, inbuf: Any, position: int, outbuf: Any) -> int:
        """Fill `outbuf` with elements from `inbuf` in portable form."""
        data, end = self._cut("Unpack_external", inbuf, position, outbuf)
        self._fill(outbuf, "Unpack_external", self._swapped(datarep, "Unpack_external", data))
        return end

    def Pack_external_size(self, datarep: str, count: int) -> int:
        """Return how many bytes `count` elements take in portable form."""
        _check_form(datarep, "Pack_external_size")
        return count * self.layout.size

    def _elements(self, memory: Bytes, call: str) -> int:
        extent = self.layout.extent
        if extent <= 0:
            raise error(
                "ERR_TYPE", f"{call}: elements lie {extent} bytes apart, so they can't be counted off"
            )
        return memory.size // extent

    def _taken(self, call: str, inbuf: Any) -> Bytes:
        memory = row(inbuf, call).view(np.uint8)
        return self.layout.gather(memory, 0, self._elements(memory, call))

    def _put(self, call: str, data: Bytes, outbuf: Any, position: int) -> int:
        packed = row(outbuf, call, writable=True).view(np.uint8)
        end = position + data.size
        if position < 0 or end > packed.size:
            raise error(
                "ERR_TRUNCATE",
                f"{call}: bytes {position} to {end} are not within a buffer of {packed.size}; make it longer",
            )
        packed[position:end] = data
        return end

    def _cut(self, call: str, inbuf: Any, position: int, outbuf: Any) -> tuple[Bytes, int]:
        memory = row(outbuf, call, writable=True).view(np.uint8)
        packed = row(inbuf, call).view(np.uint8)
        end = position + self._elements(memory, call) * self.layout.size
        if position < 0 or end > packed.size:
            raise error(
                "ERR_TRUNCATE",
                f"{call}: bytes {position} to {end} don't lie within the {packed.size} that were packed; "
                "unpack as many elements as were packed",
            )
        return packed[position:end], end

    def _fill(self, outbuf: Any, call: str, data: Bytes) -> None:
        if data.size:
            self.layout.scatter(row(outbuf, call, writable=True).view(np.uint8), 0, data)

    def _swapped(self, datarep: str, call: str, data: Bytes) -> Bytes:
        """Turn bytes from the machine's order into MPI's (big-endian), or back."""
        _check_form(datarep, call)
        dtype = self.dtype
        if dtype is None:
            raise NotImplementedError(
                f"{call}: an element of {self.state.name or 'this type'} has basic types of several sizes; "
                "pack each part by its own type"
            )
        return data if np.little_endian is False else data.view(dtype).byteswap().view(np.uint8)


def _check_form(datarep: str, call: str) -> None:
    if datarep != "external32":
        raise error("ERR_ARG", f"{call}: data representation {datarep!r} is not known; pass 'external32'")
