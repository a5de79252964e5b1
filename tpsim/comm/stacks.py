"""The calls that a rank is in, as a report of a hang shows them."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from types import FrameType

from tpsim.comm.places import is_comm, name
from tpsim.comm.signature import name_ranks

_LINES = 6  # the innermost
_WIDTH = 100


def stack_of(frame: FrameType | None, leave_out: Callable[[str], bool] = is_comm) -> tuple[str, ...]:
    """Return the lines of code that a rank is in, the innermost last: `train.py:12 in step: loss = f(x)`.

    Those in files that are left out, of tpsim's communication by default, tell nothing: the last line is the
    one that asked for it.
    """
    lines: list[str] = []
    while frame is not None and len(lines) < _LINES:
        if not leave_out(frame.f_code.co_filename):
            source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            line = name(((frame.f_code, frame.f_lineno),))
            lines.append(f"{line}: {source}"[:_WIDTH] if source else line)
        frame = frame.f_back
    return tuple(reversed(lines))


def where(stacks: Mapping[int, tuple[str, ...]]) -> str:
    """Return every rank's lines; ranks at the same place come together."""
    together: dict[tuple[str, ...], list[int]] = {}
    for rank, stack in sorted(stacks.items()):
        if stack:
            together.setdefault(stack, []).append(rank)
    parts = [
        f"  {name_ranks(ranks)}:\n" + "\n".join(f"    {line}" for line in stack)
        for stack, ranks in together.items()
    ]
    return "\n".join(["where each is, the innermost line last:", *parts]) if parts else ""
