"""The lockstep schedule: ranks are greenlets of one thread, and take turns at communication calls.

One rank runs until it has to wait; then the next that can go on does. Nothing else ever switches, so
a program does the same in the same order every time, and a hand-over costs well under a microsecond.
"""

from __future__ import annotations

import contextvars
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from types import FrameType

import greenlet

from tpsim.comm.errors import DeadlockError
from tpsim.comm.virtual import current, diagnosis
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.patient_library import patient_library
from tpsim.comm.virtual.side_threads import LOOK, Bell
from tpsim.comm.virtual.world import Body, World

Switch = Callable[[int | None, int | None], None]
"""What is told of a hand-over, just before it: the rank that stops and the rank that goes on.

None is the scheduler, which starts ranks, and to which they return at their end.
"""


class LockstepWorld(World):
    """Ranks as greenlets: deterministic, cheap at 1,024 ranks.

    Attributes
    ----------
    on_switch : callable, optional
        Called at every hand-over, on whichever rank stops: for state of the interpreter that each
        rank has of its own.
    """

    shares_thread = True

    def __init__(self, size: int, eager_bytes: int, *, check: bool = False) -> None:
        super().__init__(size, eager_bytes, check=check)
        self.on_switch: Switch | None = None
        self._ready: deque[int] = deque()
        self._unstarted: deque[int] = deque()
        self._lanes: list[greenlet.greenlet] = []  # none: the caller is the only rank (`solo`)
        self._wakers = [partial(self._wake, rank) for rank in range(size)]
        self._thread = 0
        self._bell = Bell()
        self._idle = False  # nobody can go on, but for threads beside the ranks

    def run(self, body: Body) -> None:
        """Run every rank in turn."""
        self._hub = greenlet.getcurrent()
        self._thread = get_ident()
        self._unstarted.extend(range(self.size))
        self._lanes = [greenlet.greenlet(lambda r=rank: self._live(body, r)) for rank in range(self.size)]
        for lane in self._lanes:
            lane.gr_context = contextvars.copy_context()
        self.aside.begin()
        try:
            with patient_library():
                self._take_turns()
        finally:  # also when interrupted between two turns
            with self.lock:
                self.stop()
            for rank, lane in enumerate(self._lanes):
                if lane and rank not in self.finished:
                    self._tell(None, rank)
                    lane.throw(self.stop_error(rank))

    def _take_turns(self) -> None:
        while not self.stopping:
            line = self._unstarted or self._ready
            if line:
                rank = line.popleft()
                self._tell(None, rank)
                self._lanes[rank].switch()
            elif not self.over() or self.aside.linger():
                self._stand_by()
            else:
                return

    def _stand_by(self) -> None:
        """Wait for threads beside the ranks; give up if there is none that may act."""
        with self.lock:
            if self._ready:
                return
            if not self.aside.may_act(self.moves):
                self.deadlock()
                return
            self._idle = True
        self._bell.wait(LOOK)
        self._idle = False

    def _live(self, body: Body, rank: int) -> None:
        current.rank.set((self, rank))
        try:
            self.results[rank] = body(rank)
        except BaseException as error:
            self.fail(rank, error)
        self.finish(rank)
        self._tell(rank, None)  # the hub is the parent of every lane

    def wait(self, rank: int, completion: Completion) -> None:
        """Hand over to the next rank that can go on."""
        if completion.done:
            return
        if not self._lanes:
            self.waiting_for[rank] = completion
            raise DeadlockError(diagnosis.deadlock(self))
        if get_ident() != self._thread:
            self.wait_aside(rank, completion)
            return
        if self.stopping:
            raise self.stop_error(rank)
        with self.lock:
            if completion.done:
                return
            completion.waiters.append(self._wakers[rank])
        self.waiting_for[rank] = completion
        try:
            self._hand_over(rank)
        finally:
            self.waiting_for[rank] = None

    def _hand_over(self, rank: int) -> None:
        # Only the hub starts lanes: a lane begins at the stack depth of whoever switches to it first,
        # so that starting each from the one before would add their depths up.
        to_hub = self._unstarted or not self._ready
        next_rank = None if to_hub else self._ready.popleft()
        if self.on_switch is not None:
            self.on_switch(rank, next_rank)
        (self._hub if next_rank is None else self._lanes[next_rank]).switch()

    def _tell(self, from_rank: int | None, to_rank: int | None) -> None:
        if self.on_switch is not None:
            self.on_switch(from_rank, to_rank)

    def is_aside(self, rank: int) -> bool:
        """Tell whether this thread is another than that of all ranks."""
        return get_ident() != self._thread and bool(self._lanes)

    def _wake(self, rank: int) -> None:
        self._ready.append(rank)
        if self._idle:
            self._bell.ring()

    def stir(self) -> None:
        """Let the hub look whether anybody can go on."""
        if self._idle:
            self._bell.ring()

    def wake_all(self) -> None:
        """Do nothing more: the hub throws an error into each rank that waits."""
        self.stir()

    def pause(self, rank: int) -> None:
        """Go to the end of the line."""
        if self._ready or self._unstarted:
            self._ready.append(rank)
            self._hand_over(rank)
        else:
            time.sleep(0)  # a thread beside the ranks may be what is waited for

    def alone(self) -> bool:
        """Tell whether no other rank could go on now."""
        return not (self._ready or self._unstarted)

    def has_begun(self, rank: int) -> bool:
        """Tell whether a rank has had a turn."""
        return rank in self.finished or (bool(self._lanes) and bool(self._lanes[rank]))

    def has_turn(self, rank: int) -> bool:
        """Tell whether it is a rank's turn, whichever thread asks."""
        return self.has_begun(rank) and rank not in self.finished and self._lanes[rank].gr_frame is None

    def frame_of(self, rank: int) -> FrameType | None:
        """Return where a rank was switched away, or where the running one is."""
        if not self._lanes or self._lanes[rank] is greenlet.getcurrent():
            return sys._getframe()
        frame: FrameType | None = self._lanes[rank].gr_frame
        return frame
