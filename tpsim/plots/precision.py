"""A picture of noise, and of a bug above it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tpsim.plots.style import COLOURS, new_figure, plain

Rows = Sequence[Mapping[str, Any]]

_LOOKS = [{"color": COLOURS[i], "marker": marker} for i, marker in ((0, "o"), (3, "s"), (2, "^"), (4, "D"))]
_APART = 0.08  # of marks that would hide each other


def precision(rows: Rows, buggy: Rows = ()) -> Figure:
    """Draw the error of y against the number of ranks, with that of a bug, and as multiples of one device's.

    Parameters
    ----------
    rows, buggy : sequence of mapping
        Runs: "dtype", "ranks", "accumulate" ("storage" or "float32") and "y"; one device is among them.
    """
    figure = new_figure(width=11.0)
    left, right = figure.subplots(1, 2)
    ranks = sorted({row["ranks"] for row in (*rows, *buggy)})
    for place, (dtype, look) in enumerate(_looks(rows)):
        own = [row for row in rows if row["dtype"] == dtype]
        (one,) = (row["y"] for row in own if row["ranks"] == 1)
        _line(left, ranks, own, 1.0, look)
        left.annotate(dtype, (0, one), (0, 8), textcoords="offset points")
        at = [(ranks.index(row["ranks"]), row["y"]) for row in buggy if row["dtype"] == dtype]
        for x, y in at:
            left.plot(x + (place - 1) * 2 * _APART, y, **look, markeredgecolor="black", markersize=9)
        for how, dashes, fill in (("storage", "-", "full"), ("float32", "--", "none")):
            if how == dtype:
                continue  # float32 sums are its own
            some = [row for row in own if row["accumulate"] == how or row["ranks"] == 1]
            style = {**look, "linestyle": dashes, "fillstyle": fill}
            label = dtype if how == "storage" else f"{dtype}, summed in float32"
            _line(right, ranks, some, one, style, label=label, shift=(place - 1) * _APART)
    if buggy:
        left.axhspan(min(row["y"] for row in buggy) / 2, 2 * max(row["y"] for row in buggy), color="#eeeeee")
        left.text(0, max(row["y"] for row in buggy), "with a bug planted", va="center", style="italic")
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xticks(range(len(ranks)), [str(t) for t in ranks])
        axes.set_xlabel("ranks")
    right.set_xlabel("ranks; bars: from the best order of summing to the worst")
    right.legend(frameon=False, fontsize=9)
    plain(left, "error against float64 on one device", "‖y − true y‖ / ‖true y‖")
    plain(right, "the same, divided by one device's", "error / error of one device")
    return figure


def _looks(rows: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dtype with its look."""
    for number, dtype in enumerate(dict.fromkeys(row["dtype"] for row in rows)):
        yield dtype, _LOOKS[number % len(_LOOKS)]


def _line(
    axes: Axes,
    ranks: Sequence[int],
    rows: Rows,
    unit: float,
    look: Mapping[str, Any],
    *,
    label: str | None = None,
    shift: float = 0.0,
) -> None:
    """Draw the middle of the errors at each number of ranks, and a bar from the least to the largest."""
    xs, middles, below, above = [], [], [], []
    for place, t in enumerate(ranks):
        errors = [row["y"] / unit for row in rows if row["ranks"] == t]
        if errors:
            middle = (min(errors) + max(errors)) / 2
            xs.append(place + shift)
            middles.append(middle)
            below.append(middle - min(errors))
            above.append(max(errors) - middle)
    axes.errorbar(xs, middles, (below, above), **{"linewidth": 1.4, "capsize": 4, **look}, label=label)
