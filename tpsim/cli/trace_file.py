"""`--trace FILE`: where a run goes as a Chrome trace."""

from __future__ import annotations

import os
from pathlib import Path


def check_trace_file(path: Path | None) -> None:
    """Refuse a file that can't be written, before a long run and not after it.

    Raises
    ------
    ValueError
        What was asked, why it can't be, what to do.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"trace {path} is a folder; pass the name of a file in it")
    if not (path.parent.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)):
        raise ValueError(f"trace {path} can't be written; pass a file in a folder that is there and yours")
