"""Buffers of a collective that was begun, watched: the program may not touch them before the call's end.

With `check`, the buffers are compared with what they were, when the ranks meet and at the end of the
call. (That a program reads too early can't be seen: data may have come before it waits.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpsim.comm.errors import InFlightError
from tpsim.comm.places import Mark, name
from tpsim.comm.virtual.collective.part import Part
from tpsim.comm.virtual.data.buffers import Buffer
from tpsim.comm.virtual.meeting import Combine


class WatchedPart:
    """The buffers of one rank's part."""

    def __init__(self, part: Part, call: str, begun: Mark) -> None:
        self._words = f"{call}: a buffer was changed while it was in flight (begun at {name(begun)})"
        both = [each for each in (part.send, part.recv) if isinstance(each, Buffer)]
        self._buffers = both[:1] if len(both) == 2 and both[0] is both[1] else both
        self._touched = False
        self.accept()

    def accept(self) -> None:
        """Take what is in the buffers now as what should be there."""
        self._expected = [_raw(buffer) for buffer in self._buffers]

    def look(self) -> None:
        """Note if a buffer was changed."""
        self._touched |= [_raw(buffer) for buffer in self._buffers] != self._expected

    def settle(self) -> None:
        """Raise if a buffer was changed. Called at the end of the call."""
        self.look()
        if self._touched:
            raise InFlightError(
                f"{self._words}; leave it alone between the call and its "
                "Wait (or a Test that says it is complete)"
            )

    def let_go(self) -> None:
        """Watch no longer."""
        self._buffers, self._expected = [], []


def watching(combine: Combine) -> Combine:
    """Return what `combine` does, with a look at all buffers before."""

    def look_and_combine(parts: Sequence[Part]) -> Any:
        for part in parts:
            part.watch.look()
        results = combine(list(parts))
        for part in parts:
            part.watch.accept()
        return results

    return look_and_combine


def _raw(buffer: Buffer) -> bytes:
    return buffer.pack().tobytes()
