"""The free schedule: ranks are threads and all run at once; NumPy lets go of the GIL in large kernels."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from types import FrameType

from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.world import Body, World

_STOP_SECONDS = 0.5  # how long a failed run waits for ranks that compute; they are left behind after


class FreeWorld(World):
    """Ranks as threads: as fast as the cores allow."""

    def run(self, body: Body) -> None:
        """Start every rank, and wait for all of them."""
        self._gates = [threading.Semaphore(0) for _ in range(self.size)]
        self._over = threading.Event()
        self._running = self.size
        self._threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._live, body, rank),
                name=f"tpsim rank {rank}",
                daemon=True,
            )
            for rank in range(self.size)
        ]
        try:
            for thread in self._threads:
                thread.start()
            self._over.wait()
        finally:  # also when interrupted
            with self.lock:
                self.stopping = True
                self.wake_all()
            deadline = time.monotonic() + _STOP_SECONDS
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))

    def _live(self, body: Body, rank: int) -> None:
        try:
            self.results[rank] = body(rank)
        except BaseException as error:
            with self.lock:
                self.fail(rank, error)
        with self.lock:
            self.finish(rank)
            self._running -= 1
            if self.stopping or len(self.finished) == self.size:
                self.wake_all()
            elif self._running == 0:
                self.deadlock()

    def wait(self, rank: int, completion: Completion) -> None:
        """Sleep until woken."""
        with self.lock:
            if completion.done:
                return
            if self.stopping:
                raise self.stop_error(rank)
            completion.waiters.append(rank)
            self.waiting_for[rank] = completion
            self._running -= 1
            if self._running == 0:
                self.deadlock()
        self._gates[rank].acquire()
        if not completion.done:
            raise self.stop_error(rank)

    def wake(self, rank: int) -> None:
        """Open the gate that a rank sleeps behind."""
        self._running += 1
        self.waiting_for[rank] = None
        self._gates[rank].release()

    def wake_all(self) -> None:
        """Open every gate that a rank sleeps behind, and the caller's."""
        for rank, completion in enumerate(self.waiting_for):
            if completion is not None:
                self.waiting_for[rank] = None
                self._gates[rank].release()
        self._over.set()

    def pause(self, rank: int) -> None:
        """Let go of the GIL."""
        time.sleep(0)

    def frame_of(self, rank: int) -> FrameType | None:
        """Return where a rank's thread is now."""
        return sys._current_frames().get(self._threads[rank].ident or -1)
