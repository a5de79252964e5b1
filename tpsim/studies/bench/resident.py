"""Memory that this process holds, as the system counts it."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


def can_tell() -> bool:
    """Tell whether the system says how much a process holds (Windows doesn't)."""
    return _of_status("VmHWM") is not None or find_spec("resource") is not None


def forget_peak() -> None:
    """Let the peak begin again at what is held now, where the system can (Linux)."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def resident() -> int:
    """Return the bytes of memory that this process holds now; its peak where the system tells only that."""
    return _of_status("VmRSS") or peak()


def peak() -> int:
    """Return the most bytes that this process has held: since `forget_peak`, if that is possible."""
    found = _of_status("VmHWM")
    if found is not None:
        return found
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _of_status(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), None)
