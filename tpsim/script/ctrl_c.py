"""Ctrl-C: what is said of a run that somebody interrupts, most often because it seems to hang."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.script.whereabouts import whereabouts

EXIT_CODE = 130  # of a shell's command that SIGINT ended


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, which a program may catch as ever. Its text says where each rank stood."""


@contextmanager
def interruptible(world: LockstepWorld) -> Iterator[None]:
    """Let Ctrl-C raise `Interrupted`, where it would raise KeyboardInterrupt."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"interrupted\n{whereabouts(world, frame)}")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
