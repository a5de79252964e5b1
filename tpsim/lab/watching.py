"""Noticing that a student saved a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tpsim.lab.checking import Exercise
from tpsim.lab.workbook import Workbook


def saved(book: Workbook, wait: Callable[[], None] = lambda: time.sleep(0.3)) -> Iterator[Exercise]:
    """Yield an exercise each time that its file changes; `wait` passes the time between two looks."""
    seen = _times(book)
    while True:
        wait()
        now = _times(book)
        changed = [number for number, when in now.items() if when != seen.get(number)]
        seen = now
        yield from (book.exercises[number] for number in changed)


def _times(book: Workbook) -> dict[int, int]:
    """Return when each file that is there was last written."""
    times = {}
    for number, exercise in book.exercises.items():
        try:
            times[number] = book.path(exercise).stat().st_mtime_ns
        except FileNotFoundError:  # some editors save by removing and renaming
            continue
    return times
