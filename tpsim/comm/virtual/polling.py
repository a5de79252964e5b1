"""Polling that never ends: `while not request.Test(): pass` for a message that nobody will send."""

from __future__ import annotations

import time
from collections.abc import Iterable

from tpsim.comm.virtual.completion import Completion

MANY = 10_000  # fruitless polls of each polling rank …
SECONDS = 1.0  # … and this long without a move of any rank: only then is it called a deadlock


class Polls:
    """Counts each rank's fruitless polls since any rank last did anything else.

    A rank that polls may also stop polling, so this can never be certain, as it is for ranks that
    wait; hence the patience. (A thread beside the ranks is counted by its number.)
    """

    def __init__(self) -> None:
        self._moves = -1
        self._counts: dict[int, int] = {}
        self._since = 0.0
        self._asked: dict[int, Completion] = {}

    def count(self, rank: int, asked: Completion, moves: int) -> bool:
        """Count one more, `moves` being all that ranks have done so far; return whether it is long enough."""
        if moves != self._moves:
            self._moves = moves
            self._counts.clear()
            self._asked.clear()
            self._since = time.monotonic()
        count = self._counts[rank] = self._counts.get(rank, 0) + 1
        self._asked[rank] = asked
        return count % MANY == 0 and time.monotonic() - self._since > SECONDS

    def patient(self, ranks: Iterable[int]) -> bool:
        """Tell whether each of these ranks has polled often enough."""
        return all(self._counts.get(rank, 0) >= MANY for rank in ranks)

    def asked(self, rank: int, moves: int) -> Completion | None:
        """Return what a rank polls for, if it does nothing else now."""
        return self._asked.get(rank) if moves == self._moves else None
