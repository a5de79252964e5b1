"""`--timeout`: a job that takes too long is ended, also where a rank computes or sleeps for ever."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.script.whereabouts import running_in, whereabouts

_AGAIN = 0.5  # seconds, after which a rank that caught the exception gets another
_TIMES = 6


class JobTimeout(BaseException):
    """The time is over. A BaseException, so that a rank's own `except Exception` does not keep it going."""


def limit(
    seconds: float | None, give_up: Callable[[str], None]
) -> Callable[[LockstepWorld], AbstractContextManager[None]]:
    """Return a watch for `Session.run` that ends the run after so many seconds.

    Parameters
    ----------
    seconds : float or None
        None sets no limit.
    give_up : callable
        Called with the report, from another thread, where the ranks can't be interrupted.
    """

    @contextmanager
    def watch(world: LockstepWorld) -> Iterator[None]:
        if seconds is None:
            yield
            return
        over = threading.Event()
        interrupt, restore = _interruption()
        main = threading.get_ident()

        def guard() -> None:
            if over.wait(seconds):
                return
            text = (
                f"timeout: the job did not end within {seconds:g} s\n{_standings(world, main)}\n"
                "look at the ranks that run: they compute, sleep or poll; if they are only slow, allow more "
                "time"
            )
            for _ in range(_TIMES):
                interrupt(text)
                if over.wait(_AGAIN):
                    return
            give_up(text)

        thread = threading.Thread(target=guard, name="tpsim timeout", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            restore()

    return watch


def _interruption() -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return how to raise JobTimeout in this thread, and how to undo the preparations."""
    ident, reports = threading.get_ident(), [""]
    if hasattr(signal, "SIGUSR2") and threading.current_thread() is threading.main_thread():

        def fall(number: int, frame: FrameType | None) -> None:
            raise JobTimeout(reports[0])

        before = signal.signal(signal.SIGUSR2, fall)

        def kill(text: str) -> None:  # a signal also ends a sleep
            reports[0] = text
            signal.pthread_kill(ident, signal.SIGUSR2)

        def restore() -> None:
            signal.signal(signal.SIGUSR2, before)

        return kill, restore

    def throw(text: str) -> None:
        error = type("JobTimeout", (JobTimeout,), {"__str__": lambda self: text})
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))

    return throw, lambda: None


def _standings(world: LockstepWorld, thread: int) -> str:
    try:
        return whereabouts(world, running_in(thread))
    except Exception as error:  # ranks run meanwhile, and change what is read; the job must end all the same
        return f"where its ranks stand can't be told ({error!r}); run it again"
