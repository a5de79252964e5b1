"""A picture of how much is sent, and how often, against the number of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tpsim.plots.style import GB, line, new_figure, numbers_of_ranks, plain

Lines = Mapping[str, Sequence[Mapping[str, Any]]]


def traffic(lines: Lines, title: str = "") -> Figure:
    """Draw what a rank sends in a step, and in how many collectives.

    Parameters
    ----------
    lines : mapping
        By a label, rows of an estimate, as `to_dict` gives them.
    title : str
    """
    figure = new_figure(width=11.0)
    left, right = figure.subplots(1, 2)
    ranks = sorted({row["ranks"] for rows in lines.values() for row in rows})
    for place, (label, rows) in enumerate(lines.items()):
        at = [ranks.index(row["ranks"]) for row in rows]
        left.plot(at, [row["sent_bytes"] / GB for row in rows], label=label, **line(place))
        right.plot(at, [row["collectives"] for row in rows], label=label, **line(place))
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        numbers_of_ranks(axes, ranks)
    right.legend(frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    plain(left, "what a rank sends in a step", "GB")
    plain(right, "in how many collectives", "collectives")
    return figure
