"""A picture of what more ranks gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tpsim.plots.style import line, new_figure, numbers_of_ranks, plain


def speedup(lines: Mapping[str, Sequence[Mapping[str, Any]]], node: int, title: str = "") -> Figure:
    """Draw tokens a second as multiples of the most on the fewest ranks, against the number of ranks.

    Parameters
    ----------
    lines : mapping
        By a label, rows of an estimate, as `to_dict` gives them.
    node : int
        Devices that share the fast links.
    title : str
    """
    figure = new_figure(height=5.0)
    axes = figure.subplots()
    everything = [row for rows in lines.values() for row in rows]
    ranks = sorted({row["ranks"] for row in everything})
    axes.plot(
        ranks, [t / ranks[0] for t in ranks], color="black", linewidth=1.0, linestyle=":", label="ideal"
    )
    fewest = max(row["tokens_per_second"] for row in everything if row["ranks"] == ranks[0])
    for place, (label, rows) in enumerate(lines.items()):
        gains = [row["tokens_per_second"] / fewest for row in rows]
        axes.plot([row["ranks"] for row in rows], gains, label=label, **line(place))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    numbers_of_ranks(axes, ranks, at=ranks)
    axes.set_yticks([t / ranks[0] for t in ranks], [f"{t / ranks[0]:g}" for t in ranks])
    axes.minorticks_off()
    if ranks[-1] > node:
        edge = node * 2**0.5
        axes.axvspan(edge, ranks[-1] * 1.1, color="#eeeeee", zorder=0)
        axes.set_xlim(right=ranks[-1] * 1.1)
        axes.annotate(
            f"more than a node of {node}",
            (ranks[-1] * 1.08, 0.02),
            xycoords=("data", "axes fraction"),
            ha="right",
            fontsize=9,
            style="italic",
        )
    plain(
        axes,
        f"speed-up: {title}" if title else "speed-up",
        f"times as fast as on {ranks[0]}",
    )
    axes.legend(frameon=False, loc="upper left")
    return figure
