"""Memory that a call which was begun uses, watched: the program may not touch it before the call's end.

A program that does is right only sometimes. With `check`, a send keeps a copy of what it was given and
compares at its end; the buffer of a receive is filled with a pattern, and gets its message only at the
receive's end: who reads it too early reads NaN (integers: -1), who writes to it is told.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import InFlightError
from tpsim.comm.places import Mark, name
from tpsim.comm.virtual.data.buffers import Buffer

_REMEDY = "leave it alone between the call and its Wait (or a Test that says it is complete)"


class InFlight(Protocol):
    """Memory that is watched."""

    def settle(self) -> None:
        """Say whether it was touched, and let the program have it. Called at the end of the call."""

    def let_go(self) -> None:
        """Watch no longer: the call will have no end (`Free`), or ends by an error of its own."""


class SentMemory:
    """The buffer of a send."""

    def __init__(self, buffer: Buffer, call: str, begun: Mark) -> None:
        self._buffer = buffer
        self._words = (
            f"{call}: the buffer that is sent was changed while it was in flight (begun at {name(begun)})"
        )
        self.data = buffer.pack().copy()

    def settle(self) -> None:
        """Raise if it was changed."""
        if _raw(self._buffer.pack()) != _raw(self.data):
            raise InFlightError(f"{self._words}; {_REMEDY}")

    def let_go(self) -> None:
        """Do nothing: the message has a copy."""


class ReceivedMemory:
    """The buffer of a receive: takes the message for it."""

    def __init__(self, buffer: Buffer, call: str, begun: Mark) -> None:
        self._buffer = buffer
        self._words = (
            f"{call}: the buffer to receive into was written to while it was in flight "
            f"(begun at {name(begun)})"
        )
        self._before = buffer.pack().copy()
        self._pattern = np.full(self._before.nbytes, 0xFF, np.uint8).view(self._before.dtype)
        self._came: NDArray[Any] | None = None
        self._watched = True
        self.nbytes = buffer.nbytes
        buffer.unpack(self._pattern)

    def unpack(self, values: NDArray[Any]) -> None:
        """Keep the message."""
        self._came = values.copy()
        if not self._watched:
            self._buffer.unpack(self._came)

    def settle(self) -> None:
        """Give the program its message; raise if it wrote to the buffer meanwhile."""
        touched = _raw(self._buffer.pack()) != _raw(self._pattern)
        self.let_go()
        if touched:
            raise InFlightError(f"{self._words}; {_REMEDY}")

    def let_go(self) -> None:
        """Give the program its message; one that is still to come goes straight into the buffer."""
        self._buffer.unpack(self._before)
        self._watched = False
        if self._came is not None:
            self._buffer.unpack(self._came)


def _raw(data: NDArray[Any]) -> bytes:
    return data.tobytes()
