"""A picture of what a block keeps for backward."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from tpsim.plots.style import look, new_figure, plain

MB = 1e6


def activations(bars: Mapping[str, Mapping[str, float]], title: str = "") -> Figure:
    """Draw a bar for each way to run a block, stacked by the part that keeps the bytes.

    Parameters
    ----------
    bars : mapping
        By the way, bytes by part; the same parts in all. The second is what all are a share of.
    title : str
    """
    figure = new_figure(width=10.0)
    axes = figure.subplots()
    at, bottom = np.arange(len(bars)), np.zeros(len(bars))
    parts = next(iter(bars.values()))
    for position, part in enumerate(part for part in parts if any(bar[part] for bar in bars.values())):
        sizes = np.array([bar[part] for bar in bars.values()]) / MB
        axes.bar(at, sizes, 0.65, bottom=bottom, label=part, **look(position))
        bottom += sizes
    for place, height in enumerate(bottom):
        share = "" if place < 2 else f"\n{100 * height / bottom[1]:.0f} % of TP"
        axes.text(place, height, f"{height:,.0f}{share}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(at, bars)
    axes.set_ylim(0, bottom.max() * 1.12)
    plain(axes, title, "MB a rank")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
