"""A picture of two streams: what computes, what communicates, and what waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tpsim.plots.style import COLOURS, new_figure, plain

Spans = Sequence[Mapping[str, Any]]

_LOOKS: Mapping[str, dict[str, Any]] = {
    "gemm": {"facecolor": COLOURS[0]},
    "attention": {"facecolor": COLOURS[1], "hatch": "//"},
    "other": {"facecolor": "#dddddd"},
    "collective": {"facecolor": COLOURS[2], "hatch": ".."},
}
_EXPOSED: dict[str, Any] = {"facecolor": "none", "hatch": "xx", "edgecolor": COLOURS[3], "linewidth": 0.0}
_NAMES = {"gemm": "GEMMs", "attention": "attention", "other": "other kernels", "collective": "collectives"}


def timeline(lanes: Mapping[str, Spans], exposed: Mapping[str, float], title: str = "") -> Figure:
    """Draw both streams of each way to run the same thing, on one axis of time.

    Parameters
    ----------
    lanes : mapping
        By the way, spans with "stream", "kind" ("gemm", "attention", "other", "collective"), "start", "end"
        (in seconds) and "phase".
    exposed : mapping
        By the way, seconds with communication and nothing computed beside it.
    title : str
    """
    figure = new_figure(width=12.0, height=1.0 + 1.5 * len(lanes))
    axes = figure.subplots()
    ticks: dict[float, str] = {}
    last = max(span["end"] for spans in lanes.values() for span in spans) * 1e3
    digits = 1 if last >= 1 else 3
    for place, (way, spans) in enumerate(lanes.items()):
        compute, communication = -3.0 * place, -3.0 * place - 1.0
        ticks |= {compute: "compute", communication: "communication"}
        _bars(axes, spans, {"compute": compute, "communication": communication})
        idle = waiting(spans)
        axes.broken_barh([(1e3 * a, 1e3 * (b - a)) for a, b in idle], (compute - 0.4, 0.8), **_EXPOSED)
        end = 1e3 * max(span["end"] for span in spans)
        axes.text(0, compute + 0.55, way, fontsize=10, fontweight="bold", va="bottom")
        out = 1e3 * exposed[way]
        words = f"{end:.{digits}f} ms, of which {out:.{digits}f} ms of communication are exposed"
        axes.text(last, compute + 0.55, words, fontsize=9, va="bottom", ha="right")
        if backward := [1e3 * span["start"] for span in spans if span["phase"] == "backward"]:
            turn = min(backward)
            axes.plot([turn, turn], [communication - 0.5, compute + 0.5], color="black", linewidth=1.2)
            axes.text(turn, compute + 0.55, " backward →", fontsize=9, style="italic", va="bottom")
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_xlim(0, last * 1.01)
    axes.set_ylim(-3.0 * len(lanes) + 1.3, 1.3)
    axes.set_xlabel("ms")
    plain(axes, title, "")
    axes.yaxis.grid(False)
    patches = [Patch(**{"edgecolor": "white", **look}, label=_NAMES[kind]) for kind, look in _LOOKS.items()]
    patches.append(Patch(**_EXPOSED, label="exposed: waits for messages"))
    axes.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, frameon=False)
    return figure


def _bars(axes: Axes, spans: Spans, rows: Mapping[str, float]) -> None:
    for kind, look in _LOOKS.items():
        for stream, y in rows.items():
            some = [s for s in spans if s["kind"] == kind and s["stream"] == stream]
            bars = [(1e3 * s["start"], 1e3 * (s["end"] - s["start"])) for s in some]
            axes.broken_barh(bars, (y - 0.4, 0.8), **{"edgecolor": "white", "linewidth": 0.3, **look})


def waiting(spans: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return the stretches in which a collective runs and no kernel does."""
    busy = sorted((s["start"], s["end"]) for s in spans if s["stream"] == "compute")
    found = []
    for begin, end in sorted((s["start"], s["end"]) for s in spans if s["stream"] == "communication"):
        at = begin
        for start, stop in busy:
            if stop <= at:
                continue
            if start >= end:
                break
            if start > at:
                found.append((at, start))
            at = max(at, stop)
        if at < end:
            found.append((at, end))
    return found
