"""One look for all figures: readable on a slide, and in black and white."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from tpsim.trace.tables import human_bytes

COLOURS = ("#0b3c5d", "#328cc1", "#d9b310", "#b85042", "#6b8e23", "#7a5195", "#ef8354", "#4f5d75")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--", "oo")
"""Colours differ in lightness, and hatches tell areas apart where there is no colour at all."""

GB = 1e9
_MARKERS = "os^DvPX*"
_DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)))
_LINE_COLOURS = (0, 3, 1, 4, 5, 6, 2, 7)  # neighbours differ more than in bars


def look(position: int) -> dict[str, Any]:
    """Return how the bars or areas of the `position`-th kind look."""
    colour, hatch = COLOURS[position % len(COLOURS)], HATCHES[position % len(HATCHES)]
    return {"color": colour, "hatch": hatch, "edgecolor": "white"}


def line(position: int) -> dict[str, Any]:
    """Return how the `position`-th line looks."""
    return {
        "color": COLOURS[_LINE_COLOURS[position % len(COLOURS)]],
        "marker": _MARKERS[position % len(_MARKERS)],
        "linestyle": _DASHES[position % len(_DASHES)],
        "linewidth": 1.8,
        "markersize": 7,
    }


def new_figure(width: float = 9.0, height: float = 4.5) -> Figure:
    """Return an empty figure, in inches."""
    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def plain(axes: Axes, title: str, y_label: str) -> None:
    """Give axes a title at the left, a labelled y axis with a light grid, and no box."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.grid(True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def in_bytes(axes: Axes, largest: float) -> None:
    """Give the y axis ticks at round numbers of KiB, MiB, …"""
    step = 2 ** math.ceil(math.log2(max(largest, 1) / 6))  # at most 6 of them
    axes.yaxis.set_major_locator(MultipleLocator(step))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value).replace(".0 ", " ")))


def numbers_of_ranks(axes: Axes, ranks: Sequence[int], at: Sequence[float] | None = None) -> None:
    """Label the x axis with numbers of ranks: evenly spaced, or at given places."""
    axes.set_xticks(range(len(ranks)) if at is None else at, [str(t) for t in ranks])
    axes.set_xlabel("ranks")


def ranks_of(row: Mapping[str, Any]) -> str:
    """Return the label of an estimate's row: its ranks, and the options that tell rows of a sweep apart."""
    ranks = f"{row['tp']} × {row['dp']}" if row["tp"] > 1 and row["dp"] > 1 else str(row["ranks"])
    options = ["SP"] * row["sequence_parallel"] + [row["recompute"]] * (row["recompute"] != "none")
    return "\n".join([ranks, *options])
