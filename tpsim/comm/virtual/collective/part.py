"""What one rank brings to a collective: its buffers, and whom their blocks go to and come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.buffers import Buffer

Array = NDArray[Any]

Block = int | None
"""One block of a buffer; None is the whole."""

Addressed = Sequence[tuple[int, Block]]
"""(the seat of a rank at the meeting, a block of the buffer)"""


class Part:
    """One rank's part in a collective.

    Parameters
    ----------
    name : int
        The rank within the world, for messages.
    send, recv : Buffer, optional
        What it sends from (or something else that can be packed), and what it receives into.
    out, into : sequence of (seat, block)
        Which block of `send` goes to whom; whose data fill which block of `recv`.
    hears : range
        The seats of those whose data it takes whole, or reduced.
    takes : int
        How many elements of what is reduced and scattered.

    Attributes
    ----------
    op : callable
        What reduces two arrays into a third.
    watch : WatchedPart or None
        Watches the buffers, if that was asked for.
    """

    __slots__ = ("hears", "into", "name", "op", "out", "recv", "send", "takes", "watch")

    def __init__(
        self,
        name: int,
        send: Any = None,
        recv: Any = None,
        *,
        out: Addressed = (),
        into: Addressed = (),
        hears: range = range(0),
        takes: int = 0,
    ) -> None:
        self.name = name
        self.send = send
        self.recv = recv
        self.out = out
        self.into = into
        self.hears = hears
        self.takes = takes
        self.op: Any = None
        self.watch: Any = None


class OwnBlock:
    """IN_PLACE of a gathering: a rank sends its own block of what it receives."""

    def __init__(self, buffer: Buffer, block: int) -> None:
        self._buffer = buffer
        self._block = block

    def pack(self, block: Block = None) -> Array:
        """Return the block."""
        return self._buffer.pack(self._block)


class Overwritten:
    """IN_PLACE of an exchange: a rank sends what it receives into, so this is copied first."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def pack(self, block: Block = None) -> Array:
        """Return a copy of a block."""
        return np.array(self._buffer.pack(block))
