"""A picture of when to send weights, and when activations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from tpsim.plots.style import line, new_figure, plain

Points = Sequence[Mapping[str, Any]]


def fsdp(lines: Mapping[str, Points], title: str = "") -> Figure:
    """Draw tokens a second against the tokens that a device has at a time, and where lines cross.

    Parameters
    ----------
    lines : mapping
        By a label, points with "tokens", "rate" and "fits"; the last line is compared with the first.
    title : str
    """
    figure = new_figure(height=5.0)
    axes = figure.subplots()
    for place, (label, points) in enumerate(lines.items()):
        look = line(place)
        axes.plot([p["tokens"] for p in points], [p["rate"] for p in points], label=label, **look)
        large = [p for p in points if not p["fits"]]
        axes.plot(
            [p["tokens"] for p in large],
            [p["rate"] for p in large],
            linestyle="none",
            marker="X",
            markersize=13,
            color="black",
            markerfacecolor="white",
            label="does not fit the device" if place == len(lines) - 1 else None,
        )
    first, *_, last = lines.values()
    for tokens, rate in crossings(first, last):
        axes.axvline(tokens, color="black", linewidth=1.0, linestyle=":")
        axes.annotate(
            f"{tokens:,.0f} tokens: here they\nare equally fast",
            (tokens, rate),
            (14, -50),
            textcoords="offset points",
            fontsize=9,
            arrowprops={"arrowstyle": "->"},
        )
    axes.set_xscale("log", base=2)
    ticks = [p["tokens"] for p in first]
    axes.set_xticks(ticks, [f"{n:,}" if n < 1024 else f"{n // 1024} Ki" for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("tokens a device has at a time")
    axes.set_ylim(bottom=0)
    plain(axes, f"to send activations (TP) or weights (FSDP): {title}", "tokens/s a device")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(frameon=False, loc="lower right")
    return figure


def crossings(first: Points, last: Points) -> list[tuple[float, float]]:
    """Return where two lines over the same tokens cross, between points as if straight in log(tokens)."""
    found = []
    for (a, b), (c, d) in zip(pairwise(first), pairwise(last), strict=True):
        before, after = a["rate"] - c["rate"], b["rate"] - d["rate"]
        if (before > 0) != (after > 0):
            part = before / (before - after)
            low, high = math.log2(a["tokens"]), math.log2(b["tokens"])
            found.append((2 ** (low + part * (high - low)), a["rate"] + part * (b["rate"] - a["rate"])))
    return found
