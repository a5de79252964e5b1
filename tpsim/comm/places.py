"""Lines of code, as an error message names them."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

_COMM = str(Path(__file__).parent) + os.sep
_TPSIM = str(Path(__file__).parent.parent) + os.sep
_CLI = os.path.join(_TPSIM, "cli") + os.sep

Mark = tuple[tuple[CodeType, int], ...]
"""Lines of code, not yet put into words: cheap to take at every call, named only in an error.

In line 0 is tpsim's own function that was called from there.
"""


def mark(frame: FrameType | None) -> Mark:
    """Return the line of code that asked for communication.

    Where that line is in a tpsim layer, the user's line that called the layer comes second.
    """
    calls: Mark = ()
    while frame is not None and _room(frame.f_code.co_filename) == "comm":
        calls = ((frame.f_code, 0),)
        frame = frame.f_back
    if frame is None:
        return ()
    first = (frame.f_code, frame.f_lineno)
    if _room(frame.f_code.co_filename) == "":
        return (first, *calls)
    while frame is not None and (room := _room(frame.f_code.co_filename)):
        if room == "cli":  # the command line is the caller: nobody's own code is further up
            return (first, *calls)
        frame = frame.f_back
    return (first, *calls) if frame is None else (first, (frame.f_code, frame.f_lineno), *calls)


def name(place: Mark) -> str:
    """Return "demo.py:12 in main", or "nn/mlp.py:90 in forward, called from demo.py:12 in main"."""
    return ", called from ".join(_line(code, line) for code, line in place if line)


def called(place: Mark) -> str:
    """Return the name of the function of tpsim's communication that was called at a place: "Irecv"."""
    return next((code.co_name for code, line in place if not line), "")


def entry(frame: FrameType | None) -> str:
    """Return the name of the function of tpsim's communication in which a rank is: "Waitall"."""
    return called(mark(frame))


def line_of(frame: FrameType | None) -> str:
    """Return the name of the line of code that asked for communication."""
    return name(mark(frame))


def is_comm(filename: str) -> bool:
    """Tell whether a file is one of tpsim's communication, whose lines teach nothing in a report."""
    return _room(filename) == "comm"


@cache
def _room(filename: str) -> str:
    if filename.startswith(_COMM) or filename == threading.__file__:  # where a free rank sleeps
        return "comm"
    if filename.startswith(_CLI):
        return "cli"
    return "tpsim" if filename.startswith(_TPSIM) else ""


def _line(code: CodeType, line: int) -> str:
    within = "" if code.co_name == "<module>" else f" in {code.co_name}"
    return f"{_file(code)}:{line}{within}"


def _file(code: CodeType) -> str:
    path = Path(code.co_filename)
    return path.relative_to(_TPSIM).as_posix() if _room(code.co_filename) else path.name
