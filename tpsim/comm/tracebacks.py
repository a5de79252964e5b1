"""Tracebacks that begin where the user's code does."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tpsim.comm.errors import CommError, Crash

E = TypeVar("E", bound=BaseException)

_COMM = str(Path(__file__).parent) + os.sep


def from_main_on(error: E) -> E:
    """Return `error` without the frames that lead to a rank's `main`.

    An error of communication goes without all other frames of `tpsim.comm` too: it says itself who
    called what, from where, and the way from there to the raise teaches nothing.
    """
    links: list[TracebackType] = []
    link = error.__traceback__
    while link is not None:
        ours = link.tb_frame.f_code.co_filename.startswith(_COMM)
        if not ours or (links and not isinstance(error, CommError | Crash)):
            links.append(link)
        link = link.tb_next
    chain: TracebackType | None = None
    for link in reversed(links):
        chain = TracebackType(chain, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return error.with_traceback(chain) if links else error
