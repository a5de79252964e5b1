"""An algorithm's port, on any communicator with mpi4py's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class CommPort:
    """Starts the sends and receives of one collective, and counts what it sends.

    Buffers travel as bytes, so that any dtype can (MPI itself knows no bfloat16). Each collective
    has a tag of its own: two of them can be under way at once.
    """

    def __init__(self, comm: Any, tag: int, *, synchronous: bool = False) -> None:
        self.rank: int = comm.rank
        self.size: int = comm.size
        self.messages = 0
        self.bytes_sent = 0
        self._isend = comm.Issend if synchronous else comm.Isend
        self._irecv = comm.Irecv
        self._tag = tag

    def send(self, buffer: NDArray[Any], to: int) -> Any:
        """Start a send."""
        self.messages += 1
        self.bytes_sent += buffer.nbytes
        return self._isend(buffer.view(np.uint8), to, self._tag)

    def recv(self, buffer: NDArray[Any], source: int) -> Any:
        """Start a receive."""
        return self._irecv(buffer.view(np.uint8), source, self._tag)

    def sent(self) -> tuple[int, int]:
        """Return the messages and bytes sent so far."""
        return self.messages, self.bytes_sent
