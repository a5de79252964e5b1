"""Lines of code, as an error message names them."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

_COMM = str(Path(__file__).parent) + os.sep
_TPSIM = str(Path(__file__).parent.parent) + os.sep

Mark = tuple[tuple[CodeType, int], ...]
"""Lines of code, not yet put into words: cheap to take at every call, named only in an error."""


def mark(frame: FrameType | None) -> Mark:
    """Return the line of code that asked for communication.

    Where that line is in a tpsim layer, the user's line that called the layer comes second.
    """
    while frame is not None and _room(frame.f_code.co_filename) == "comm":
        frame = frame.f_back
    if frame is None:
        return ()
    first = (frame.f_code, frame.f_lineno)
    if _room(frame.f_code.co_filename) == "":
        return (first,)
    while frame is not None and _room(frame.f_code.co_filename) != "":
        frame = frame.f_back
    return (first,) if frame is None else (first, (frame.f_code, frame.f_lineno))


def name(place: Mark) -> str:
    """Return "demo.py:12 in main", or "nn/mlp.py:90 in forward, called from demo.py:12 in main"."""
    return ", called from ".join(f"{_file(code)}:{line} in {code.co_name}" for code, line in place)


def line_of(frame: FrameType | None) -> str:
    """Return the name of the line of code that asked for communication."""
    return name(mark(frame))


@cache
def _room(filename: str) -> str:
    if filename.startswith(_COMM) or filename == threading.__file__:  # where a free rank sleeps
        return "comm"
    return "tpsim" if filename.startswith(_TPSIM) else ""


def _file(code: CodeType) -> str:
    path = Path(code.co_filename)
    return path.relative_to(_TPSIM).as_posix() if _room(code.co_filename) else path.name
