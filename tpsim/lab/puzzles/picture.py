"""The timeline of a schedule as text, and as rows for `tpsim.plots.timeline`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpsim.lab.puzzles.simulate import Simulation

_HEAD = 16
_STREAMS = {"compute": ("compute", "─"), "communication": ("links", "═")}


def text(simulation: Simulation, width: int = 80) -> list[str]:
    """Return two lines a device, what it computes and what its links do, and an axis of time."""
    room = width - _HEAD
    scale = room / simulation.seconds if simulation.seconds else 0.0
    lines = []
    for rank, spans in enumerate(simulation.spans):
        for stream, (name, fill) in _STREAMS.items():
            if any(span["stream"] == "communication" for span in spans) or stream == "compute":
                head = f"device {rank}" if stream == "compute" else ""
                own = [span for span in spans if span["stream"] == stream]
                lines.append(f"{head:9}{name:7}" + _row(own, scale, room, fill))
    end = f"{simulation.seconds * 1e3:.3f} ms"
    return [*lines, f"{'':{_HEAD}}0{end:>{room - 1}}"]


def _row(spans: Sequence[dict[str, Any]], scale: float, room: int, fill: str) -> str:
    row = [" "] * room
    for span in spans:
        start, stop = round(span["start"] * scale), round(span["end"] * scale)
        wide = stop - start
        if wide == 1:
            row[start] = "│"
        elif wide > 1:
            label, inside = span["label"], wide - 2
            if len(label) > inside:
                label = f"{label[: inside - 1]}…" if inside else ""
            row[start:stop] = f"[{label.center(inside, fill)}]"
    return "".join(row).rstrip()
