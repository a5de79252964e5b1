"""Pictures of serving: how soon a token comes against how many come, and where a token's time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tpsim.plots.style import line, look, new_figure, numbers_of_ranks, plain

PARTS = {
    "weights": "reading weights",
    "kv_cache": "reading the KV cache",
    "flops": "arithmetic",
    "all_reduce": "all-reduces",
    "launches": "launches",
}


def latency_throughput(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Draw tokens a second a device against the time per token, over batches, a line a number of ranks.

    Parameters
    ----------
    rows : sequence of mapping
        Of `tpsim estimate --serve`, as `to_dict` gives them.
    title : str
    """
    figure = new_figure(height=5.0)
    axes = figure.subplots()
    for place, row in enumerate(row for row in rows if row["curve"]):
        curve = row["curve"]
        latency = [1e3 * point["seconds_per_token"] for point in curve]
        axes.plot(
            latency,
            [point["tokens_per_second_per_device"] for point in curve],
            label=f"t = {row['tp']}",
            **line(place),
        )
        last = curve[-1]
        axes.annotate(
            f"{last['batch']}",
            (latency[-1], last["tokens_per_second_per_device"]),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set_xlabel("ms a token, for each sequence (at a line's end: sequences at a time)")
    plain(axes, f"latency against throughput: {title}" if title else "latency", "tokens a second a device")
    axes.legend(frameon=False, loc="lower right")
    return figure


def token_time(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Draw what the time of a token is made of, a bar a number of ranks, and the time to the first one.

    Parameters
    ----------
    rows : sequence of mapping
        Of `tpsim estimate --serve`, as `to_dict` gives them.
    title : str
    """
    figure = new_figure()
    each, first = figure.subplots(1, 2, width_ratios=(2, 1))
    ranks = [row["tp"] for row in rows]
    bottom = [0.0] * len(rows)
    for place, (part, name) in enumerate(PARTS.items()):
        heights = [1e3 * row["parts"][part] for row in rows]
        each.bar(range(len(rows)), heights, bottom=bottom, label=name, width=0.7, **look(place))
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    first.plot(range(len(rows)), [1e3 * row["prefill"] for row in rows], **line(0))
    first.set_ylim(bottom=0)
    for axes in (each, first):
        numbers_of_ranks(axes, ranks)
    about = f"{title}, batch {rows[0]['batch']}, context {rows[0]['context']:,}" if title else ""
    plain(each, f"time per token: {about}" if about else "time per token", "ms")
    plain(first, "time to first token", "ms")
    each.legend(frameon=False)
    return figure
