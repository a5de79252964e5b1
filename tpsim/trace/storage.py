"""Which memory an array keeps alive, so that a buffer and its views are charged once.

An array that has a shape and no data says by itself where it would lie: `array.memory()` is its storage,
and from which byte of it to which.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray


class View(NamedTuple):
    """The memory of one view: a reshape or a transpose of it is the same memory."""

    start: int
    stop: int
    nbytes: int


class Buffer:
    """One buffer, and those views of it that are saved."""

    def __init__(self, owner: Any) -> None:
        self.owner = weakref.ref(owner)
        self.nbytes: int = owner.nbytes
        self.views: Counter[View] = Counter()

    def charge(self) -> int:
        """Return the bytes of the views together: at most the buffer's."""
        return min(self.nbytes, sum(view.nbytes for view in self.views))


class Storages:
    """Buffers kept alive by saved arrays.

    Attributes
    ----------
    nbytes : int
        What all of them cost.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._buffers: dict[int, Buffer] = {}

    def add(self, array: NDArray[Any]) -> int:
        """Keep one more view; return the bytes this adds."""
        owner = _owner(array)
        address = _address(owner)
        buffer = self._buffers.get(address)
        if buffer is not None and buffer.owner() is None and getattr(owner, "base", None) is None:
            self.nbytes -= buffer.charge()  # gone without a release; this is another one at its address
            buffer = None
        if buffer is None:
            buffer = self._buffers[address] = Buffer(owner)
        before = buffer.charge()
        buffer.views[_view(array)] += 1
        added = buffer.charge() - before
        self.nbytes += added
        return added

    def remove(self, array: NDArray[Any]) -> None:
        """Let one view go; one that is not kept is left alone."""
        address, view = _address(_owner(array)), _view(array)
        buffer = self._buffers.get(address)
        if buffer is None or view not in buffer.views:
            return
        before = buffer.charge()
        buffer.views[view] -= 1
        if not buffer.views[view]:
            del buffer.views[view]
        self.nbytes -= before - buffer.charge()
        if not buffer.views:
            del self._buffers[address]


def _owner(array: Any) -> Any:
    """Return the array that is the whole buffer of `array`: NumPy's own, or over a bytes object or a file."""
    if hasattr(array, "memory"):
        return array.memory()[0]
    while isinstance(array.base, np.ndarray):
        array = array.base
    base = array.base
    if isinstance(base, memoryview):
        base = base.obj
        if isinstance(base, np.ndarray):
            return _owner(base)
    if base is None:
        return array
    try:
        return np.frombuffer(base, np.uint8)  # the same for all arrays over one object
    except (TypeError, ValueError, BufferError):
        return array


def _address(owner: Any) -> int:
    if not isinstance(owner, np.ndarray):
        return id(owner)
    address: int = owner.__array_interface__["data"][0]
    return address


def _view(array: Any) -> View:
    if hasattr(array, "memory"):
        _, start, stop = array.memory()
        return View(start, stop, array.nbytes)
    return View(*byte_bounds(array), array.nbytes)
