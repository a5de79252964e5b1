"""A picture of a training step's memory, against the number of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tpsim.plots.style import GB, look, new_figure, plain, ranks_of

_OTHER = ("statistics", "recomputed", "working", "gathered")


def memory_stack(rows: Sequence[Mapping[str, Any]], limit: int, title: str = "") -> Figure:
    """Draw weights, gradients, optimizer state and activations of a rank, and the device's limit.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of an estimate, as `to_dict` gives them.
    limit : int
        Bytes that a device has.
    title : str
    """
    figure = new_figure(width=max(9.0, 0.75 * len(rows) + 2))
    axes = figure.subplots()
    at, bottom = np.arange(len(rows)), np.zeros(len(rows))
    for position, (label, keys) in enumerate(
        {
            "weights": ("weights",),
            "gradients": ("gradients",),
            "optimizer": ("optimizer",),
            "activations": ("activations",),
            "for a moment": _OTHER,
        }.items()
    ):
        sizes = np.array([sum(row["memory"][key] for key in keys) for row in rows]) / GB
        axes.bar(at, sizes, 0.65, bottom=bottom, label=label, **look(position))
        bottom += sizes
    for place, (row, height) in enumerate(zip(rows, bottom, strict=True)):
        weight = "normal" if row["fits"] else "bold"
        note = "" if row["fits"] else "\ntoo much"
        axes.text(
            place, height, f"{height:,.0f}{note}", ha="center", va="bottom", fontsize=9, fontweight=weight
        )
    axes.axhline(limit / GB, color="black", linestyle="--", linewidth=1.4)
    axes.annotate(
        f"a device has {limit / GB:,.0f} GB",
        (1.0, limit / GB),
        (-4, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    axes.set_ylim(0, max(*bottom, limit / GB) * 1.15)
    axes.set_xticks(at, [ranks_of(row) for row in rows])
    axes.set_xlabel("ranks")
    plain(axes, f"memory of a rank: {title}" if title else "memory of a rank", "GB")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
