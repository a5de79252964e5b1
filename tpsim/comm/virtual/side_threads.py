"""Threads that ranks start: each may communicate as the rank whose communicator it uses.

Nobody tells a world that such a thread exists before it communicates. So before a world gives up it looks
at every thread that was started since it began.
"""

from __future__ import annotations

import concurrent.futures.thread
import queue
import sys
import threading
import time

from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.polling import Polls

PATIENCE = 5.0  # seconds without a move of any rank, after which threads that only stand by don't count
LOOK = 0.01  # seconds between two looks at threads that may still act

_STAND_BY = frozenset({threading.__file__, queue.__file__, concurrent.futures.thread.__file__})


class RankThread(threading.Thread):
    """A thread that is a rank: of a world's own, not beside it."""


class Bell:
    """Wakes one thread, which goes on when it rings, or rang before, or after some time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the thread go on."""
        if self._lock.locked():  # else it rang already; a world rings with its lock held
            self._lock.release()

    def wait(self, seconds: float = -1) -> None:
        """Wait for the bell, or for some time."""
        self._lock.acquire(timeout=seconds)


class Sleeper:
    """A side thread that waits for a completion."""

    __slots__ = ("bell", "completion", "rank")

    def __init__(self, rank: int, completion: Completion) -> None:
        self.rank = rank
        self.completion = completion
        self.bell = Bell()


class SideThreads:
    """The threads beside one world's ranks."""

    def __init__(self, polls: Polls) -> None:
        self.waiting: dict[int, Sleeper] = {}  # by the thread's number
        self._polls = polls
        self._before: set[threading.Thread] = set()
        self._spoke: set[threading.Thread] = set()
        self._moves = -1
        self._since = 0.0

    def begin(self) -> None:
        """Note which threads are none of the ranks' making."""
        self._before = set(threading.enumerate())

    def spoke(self) -> int:
        """Note that this thread communicates; return its number."""
        self._spoke.add(threading.current_thread())
        return threading.get_ident()

    def linger(self) -> bool:
        """Tell whether threads that communicated would keep a process from ending."""
        return any(thread.is_alive() and not thread.daemon for thread in self._spoke)

    def may_act(self, moves: int) -> bool:
        """Tell whether some thread may still do something for the ranks; `moves` is what was done so far."""
        now = time.monotonic()
        if moves != self._moves:
            self._moves, self._since = moves, now
        patient = now - self._since > PATIENCE
        return any(
            self._acts(thread, patient)
            for thread in threading.enumerate()
            if thread not in self._before and not isinstance(thread, RankThread)
        )

    def _acts(self, thread: threading.Thread, patient: bool) -> bool:
        number = thread.ident or 0
        if number in self.waiting:
            return self.waiting[number].completion.done
        if self._polls.patient([number]):
            return False
        if not patient:
            return True
        if thread.daemon and thread not in self._spoke:
            return False
        frame = sys._current_frames().get(number)
        return frame is not None and frame.f_code.co_filename not in _STAND_BY
