"""The lockstep schedule: ranks are greenlets of one thread, and take turns at communication calls.

One rank runs until it has to wait; then the next that can go on does. Nothing else ever switches, so
a program does the same in the same order every time, and a hand-over costs well under a microsecond.
"""

from __future__ import annotations

import contextvars
import sys
from collections import deque
from types import FrameType

import greenlet

from tpsim.comm.errors import DeadlockError
from tpsim.comm.virtual import diagnosis
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.world import Body, World


class LockstepWorld(World):
    """Ranks as greenlets: deterministic, cheap at 1,024 ranks."""

    def __init__(self, size: int, eager_bytes: int) -> None:
        super().__init__(size, eager_bytes)
        self._ready: deque[int] = deque()
        self._unstarted: deque[int] = deque()
        self._lanes: list[greenlet.greenlet] = []  # none: the caller is the only rank (`solo`)

    def run(self, body: Body) -> None:
        """Run every rank in turn."""
        self._hub = greenlet.getcurrent()
        self._unstarted.extend(range(self.size))
        self._lanes = [greenlet.greenlet(lambda r=rank: self._live(body, r)) for rank in range(self.size)]
        for lane in self._lanes:
            lane.gr_context = contextvars.copy_context()
        try:
            while len(self.finished) < self.size and not self.stopping:
                line = self._unstarted or self._ready
                if line:
                    self._lanes[line.popleft()].switch()
                else:
                    self.deadlock()
        finally:  # also when interrupted between two turns
            self.stopping = True
            for rank, lane in enumerate(self._lanes):
                if lane and rank not in self.finished:
                    lane.throw(self.stop_error(rank))

    def _live(self, body: Body, rank: int) -> None:
        try:
            self.results[rank] = body(rank)
        except BaseException as error:
            self.fail(rank, error)
        self.finish(rank)  # and back to the hub, the parent of every lane

    def wait(self, rank: int, completion: Completion) -> None:
        """Hand over to the next rank that can go on."""
        if completion.done:
            return
        if self.stopping:
            raise self.stop_error(rank)
        self.waiting_for[rank] = completion
        if not self._lanes:
            raise DeadlockError(diagnosis.deadlock(self))
        completion.waiters.append(rank)
        try:
            self._hand_over()
        finally:
            self.waiting_for[rank] = None

    def _hand_over(self) -> None:
        # Only the hub starts lanes: a lane begins at the stack depth of whoever switches to it first,
        # so that starting each from the one before would add their depths up.
        to_hub = self._unstarted or not self._ready
        (self._hub if to_hub else self._lanes[self._ready.popleft()]).switch()

    def wake(self, rank: int) -> None:
        """Put a rank at the end of the line."""
        self._ready.append(rank)

    def wake_all(self) -> None:
        """Do nothing: the hub throws an error into each rank that waits."""

    def pause(self, rank: int) -> None:
        """Go to the end of the line."""
        if self._ready or self._unstarted:
            self._ready.append(rank)
            self._hand_over()

    def frame_of(self, rank: int) -> FrameType | None:
        """Return where a rank was switched away, or where the running one is."""
        if not self._lanes or self._lanes[rank] is greenlet.getcurrent():
            return sys._getframe()
        frame: FrameType | None = self._lanes[rank].gr_frame
        return frame
