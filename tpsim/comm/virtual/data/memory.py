"""`MPI.buffer`: a piece of memory, as a sequence of bytes."""

from __future__ import annotations

import ctypes
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.rows import row

_NOTHING = object()


class buffer(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of an object's memory.

    It is an array because classes written in Python can be buffers from version 3.12 on only.

    Attributes
    ----------
    obj : object
        Whose memory it is.
    """

    obj: Any = None

    def __new__(cls, buf: Any = _NOTHING, /) -> Self:
        """Return the memory of a bytes-like object."""
        return cls._over(np.empty(0, np.uint8), None) if buf is _NOTHING else cls._over(_bytes_of(buf), buf)

    @classmethod
    def _over(cls, memory: NDArray[np.uint8], obj: Any) -> Self:
        view = memory.view(cls)
        view.obj = obj
        return view

    def __array_finalize__(self, source: Any) -> None:
        self.obj = getattr(source, "obj", None)
        self._released = False

    @staticmethod
    def allocate(nbytes: int, clear: bool = False) -> buffer:
        """Return new memory; zeros if it is to be clear."""
        if not hasattr(nbytes, "__index__"):
            raise TypeError(f"allocate: {nbytes!r} is no number of bytes; pass an int")
        if nbytes < 0:
            raise ValueError(f"allocate: {nbytes} bytes can't be had; pass 0 or more")
        memory = bytearray(nbytes)
        return buffer._over(np.frombuffer(memory, np.uint8), memory)

    @staticmethod
    def frombuffer(obj: Any, readonly: bool = False) -> buffer:
        """Return the memory of a bytes-like object."""
        memory = _bytes_of(obj)
        if readonly:
            memory.flags.writeable = False
        return buffer._over(memory, obj)

    @staticmethod
    def fromaddress(address: int, nbytes: int, readonly: bool = False) -> buffer:
        """Return the memory at an address of this process."""
        if nbytes < 0:
            raise ValueError(f"fromaddress: {nbytes} bytes can't be had; pass 0 or more")
        if nbytes and not address:
            raise ValueError(
                f"fromaddress: nothing is at address 0, least of all {nbytes} bytes; pass another"
            )
        memory = at_address(address, nbytes)
        memory.flags.writeable = not readonly
        return buffer._over(memory, None)

    @property
    def address(self) -> int:
        """Where the memory begins; 0 if it was released."""
        there = not self._released and (self.size or self.obj is not None)
        return self.ctypes.data if there else 0

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return 0 if self._released else self.size

    @property
    def readonly(self) -> bool:
        """Whether the memory can't be written to."""
        return not self._released and not self.flags.writeable

    @property
    def format(self) -> str:
        """The buffer protocol's code of an element."""
        return "B"

    def __bool__(self) -> bool:
        return len(self) > 0

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, item: Any) -> Any:
        return super().__getitem__(_plain(item))

    def __setitem__(self, item: Any, value: Any) -> None:
        item = _plain(item)
        if self.readonly:
            raise TypeError("buffer: this memory is read-only; allocate some of your own")
        if isinstance(item, slice) and not isinstance(value, SupportsIndex | np.ndarray):
            value = np.frombuffer(value, np.uint8)
        if isinstance(item, slice) and isinstance(value, np.ndarray):
            value = value.view(np.ndarray).reshape(-1).view(np.uint8)
            room = len(range(*item.indices(self.size)))
            if value.size != room:
                raise ValueError(f"buffer: {value.size} bytes don't fit into {room}; cut both to one length")
        super().__setitem__(item, value)

    def __delitem__(self, item: Any) -> None:
        raise NotImplementedError("buffer: memory can't be shortened; take a slice of it")

    def cast(self, format: str, shape: Any = None) -> memoryview:
        """Return the memory as elements of another type."""
        view: Any = memoryview(self.data)
        cast: memoryview = view.cast(format) if shape is None else view.cast(format, shape)
        return cast

    def tobytes(self, order: str | None = None) -> bytes:
        """Return a copy of the memory. (Bytes have one order only.)"""
        return self.data.tobytes()

    def toreadonly(self) -> buffer:
        """Return the same memory, for reading."""
        memory = self.view()
        memory.flags.writeable = False
        return memory

    def release(self) -> None:
        """Let go of the memory."""
        self.obj = None
        self._released = True


def at_address(address: int, nbytes: int) -> NDArray[np.uint8]:
    """Return memory of this process, as bytes."""
    if not nbytes:
        return np.empty(0, np.uint8)
    memory: Any = (ctypes.c_ubyte * nbytes).from_address(address)
    array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
    return array


def _bytes_of(obj: Any) -> NDArray[np.uint8]:
    return row(obj, "buffer").view(np.uint8)


def _plain(item: Any) -> Any:
    """Return an index that mpi4py would take: a number, or a slice without steps."""
    if isinstance(item, slice):
        if item.step not in (None, 1):
            raise IndexError("buffer: a slice of memory has no steps; leave the step out")
        return item
    if not hasattr(item, "__index__"):
        raise TypeError(f"buffer: {item!r} is no index; pass an int or a slice")
    return item
