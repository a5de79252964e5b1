"""A picture of what is sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tpsim.plots.style import COLOURS, in_bytes, look, new_figure, plain
from tpsim.trace import Trace
from tpsim.trace.tables import human_bytes


def communication(traces: Sequence[Trace]) -> Figure:
    """Draw the bytes that each rank sends in each collective, in order of time.

    Parameters
    ----------
    traces : sequence of Trace
        One a rank, of a program whose ranks make the same collectives.
    """
    events = traces[0].collectives
    figure = new_figure(width=max(8.0, 1.1 * len(events) + 2))
    axes = figure.subplots()
    width, few = 0.8 / len(traces), len(traces) <= len(COLOURS)
    for rank, trace in enumerate(traces):
        left = np.arange(len(events)) - 0.4 + rank * width
        sent = [event.bytes_sent for event in trace.collectives]
        axes.bar(left, sent, width, align="edge", label=f"rank {rank}", **look(rank if few else 0))
    labels = [f"{e.operation.replace('_', '-')}\n{_short(e.layer)}" for e in events]
    axes.set_xticks(np.arange(len(events)), labels, fontsize=8)
    first_backward = next((i for i, e in enumerate(events) if e.phase == "backward"), len(events))
    top = max((e.bytes_sent for trace in traces for e in trace.collectives), default=0) or 1
    axes.set_ylim(0, top * 1.15)
    for text, at in (("forward", 0), ("backward", first_backward)):
        if at < len(events):
            axes.text(at - 0.4, top * 1.07, f"{text} →", fontsize=9, style="italic")
    if 0 < first_backward < len(events):
        axes.axvline(first_backward - 0.5, color="black", linewidth=0.8, linestyle=":")
    algorithm = events[0].algorithm if events else ""
    total = human_bytes(sum(e.bytes_sent for e in events))
    plain(axes, f"what each of {len(traces)} ranks sends ({algorithm}): {total} by rank 0", "bytes sent")
    if top == 1:
        axes.set_yticks([0])
        axes.text(0.5, 0.5, "nothing is sent", transform=axes.transAxes, ha="center")
    else:
        in_bytes(axes, top)
    if few:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    else:
        axes.set_xlabel(f"in each group: ranks 0 to {len(traces) - 1}, left to right")
    return figure


def _short(layer: str) -> str:
    return layer.replace("attention", "attn")
