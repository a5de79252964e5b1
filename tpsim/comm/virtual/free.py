"""The free schedule: ranks are threads and all run at once; NumPy lets go of the GIL in large kernels."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from functools import partial
from types import FrameType

from tpsim.comm.virtual import current
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.side_threads import LOOK, Bell, RankThread
from tpsim.comm.virtual.world import Body, World

_STOP_SECONDS = 0.5  # how long a failed run waits for ranks that compute; they are left behind after


class FreeWorld(World):
    """Ranks as threads: as fast as the cores allow."""

    def run(self, body: Body) -> None:
        """Start every rank, and wait for all of them."""
        self._bells = [Bell() for _ in range(self.size)]
        self._wakers = [partial(self._wake, rank) for rank in range(self.size)]
        self._caller = Bell()
        self._watching = False  # whether threads beside the ranks have to be looked after
        self._running = self.size
        self._threads = [
            RankThread(
                target=contextvars.copy_context().run,
                args=(self._live, body, rank),
                name=f"tpsim rank {rank}",
                daemon=True,
            )
            for rank in range(self.size)
        ]
        self.aside.begin()
        try:
            for thread in self._threads:
                thread.start()
            self._watch()
        finally:  # also when interrupted
            with self.lock:
                self.stop()
            deadline = time.monotonic() + _STOP_SECONDS
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        """Wait for the end, and look after threads beside the ranks meanwhile."""
        while True:
            self._caller.wait(LOOK if self._watching else -1)
            with self.lock:
                if self.stopping:
                    return
                if self.over() and not self.aside.linger():
                    return
                self._watching = True
                if self._running == 0 and not self.aside.may_act(self.moves):
                    self.deadlock()

    def _live(self, body: Body, rank: int) -> None:
        current.rank.set((self, rank))
        try:
            self.results[rank] = body(rank)
        except BaseException as error:
            with self.lock:
                self.fail(rank, error)
        with self.lock:
            self.finish(rank)
            self._running -= 1
            if self.stopping:
                self.stop()
            else:
                self.stir()

    def wait(self, rank: int, completion: Completion) -> None:
        """Sleep until woken."""
        if completion.done:
            return
        if self.is_aside(rank):
            self.wait_aside(rank, completion)
            return
        with self.lock:
            if completion.done:
                return
            if self.stopping:
                raise self.stop_error(rank)
            completion.waiters.append(self._wakers[rank])
            self.waiting_for[rank] = completion
            self._running -= 1
            self.stir()
        self._bells[rank].wait()
        if not completion.done:
            raise self.stop_error(rank)

    def is_aside(self, rank: int) -> bool:
        """Tell whether this thread is not the rank's."""
        return threading.get_ident() != self._threads[rank].ident

    def stir(self) -> None:
        """Give up if nobody can go on."""
        if self._running == 0 and not self.stopping:
            if not self.over() and not self.aside.may_act(self.moves):
                self.deadlock()
            else:
                self._caller.ring()

    def _wake(self, rank: int) -> None:
        self._running += 1
        self.waiting_for[rank] = None
        self._bells[rank].ring()

    def wake_all(self) -> None:
        """Wake every rank that sleeps, and the caller."""
        for rank, completion in enumerate(self.waiting_for):
            if completion is not None:
                self.waiting_for[rank] = None
                self._bells[rank].ring()
        self._caller.ring()

    def pause(self, rank: int) -> None:
        """Let go of the GIL."""
        time.sleep(0)

    def frame_of(self, rank: int) -> FrameType | None:
        """Return where a rank's thread is now."""
        return sys._current_frames().get(self._threads[rank].ident or -1)
