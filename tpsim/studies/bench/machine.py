"""Which machine this is, and how much of it others use."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for input
_COLUMNS = 8  # the later ones, of guests, are counted in the first


class Others:
    """Watches, from its making on, what others than this program use of the machine.

    Parameters
    ----------
    own : callable
        Returns the seconds of the cores that this program's workers have used so far.
    """

    def __init__(self, own: Callable[[], float] = lambda: 0.0) -> None:
        self._workers = own
        self._began = time.monotonic(), self._own(), _busy()

    def _own(self) -> float:
        return self._workers() + time.process_time()

    def share(self) -> float | None:
        """Return which share of all cores it was, 0 to 1; None where the system doesn't tell."""
        began, own, busy = self._began
        now = _busy()
        if busy is None or now is None:
            return None
        used = (now - busy) - (self._own() - own)
        return min(1.0, max(0.0, used / (time.monotonic() - began) / (os.cpu_count() or 1)))


def _busy() -> float | None:
    """Return the seconds that all cores together were at work since the system's start (Linux)."""
    try:
        columns = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1 : 1 + _COLUMNS]]
        return (sum(columns) - sum(columns[place] for place in _IDLE)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def others_now(seconds: float = 0.5) -> float | None:
    """Return the share of all cores that others use while this program sleeps."""
    others = Others()
    time.sleep(seconds)
    return others.share()


def processor() -> str:
    """Return what the processor is called."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
