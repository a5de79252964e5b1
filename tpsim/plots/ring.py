"""A picture of the ring all-reduce: who has added what to which chunk, step by step."""

from __future__ import annotations

from collections.abc import Sequence, Set

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from tpsim.plots.sharding import tint
from tpsim.plots.style import COLOURS, new_figure

Buffers = Sequence[Sequence[Set[int]]]
"""By rank and chunk, whose parts are added up there."""

_PAD = 0.08


def ring(states: Sequence[Buffers], sent: Sequence[Sequence[int]], titles: Sequence[str]) -> Figure:
    """Draw every rank's chunks before the first step and after each one.

    Parameters
    ----------
    states : sequence of [rank][chunk] sets of ranks
        What each chunk is the sum of; one more than there are steps.
    sent : sequence of [rank] chunks
        Which chunk each rank sends to the next one, in each step.
    titles : sequence of str
        One a state.
    """
    ranks, columns = len(states[0]), (len(states) + 1) // 2
    width = max(0.62 * ranks * columns + 1.2, 5.2)  # inches: room for titles and legend
    figure = new_figure(width, 1.36 * ranks + 1.6)
    grid = figure.subplots(2, columns, squeeze=False)
    for place, axes in enumerate(grid.ravel()):
        axes.set_axis_off()
        if place < len(states):
            going = sent[place] if place < len(sent) else ()
            _draw_state(axes, states[place], going, names=place % columns == 0)
            axes.set_title(titles[place], loc="left", fontsize=9.5, fontweight="bold")
    patches = [
        Patch(facecolor=tint(r), edgecolor=COLOURS[r % len(COLOURS)], label=f"rank {r}'s part")
        for r in range(ranks)
    ]
    patches.append(Patch(facecolor="none", edgecolor="black", linewidth=2, label="the whole sum"))
    figure.legend(handles=patches, loc="outside lower left", ncols=5, frameon=False, fontsize=9)
    return figure


def _draw_state(axes: Axes, buffers: Buffers, going: Sequence[int], *, names: bool) -> None:
    """Draw a row for each rank and a cell for each chunk, with a slot for each part of its sum."""
    ranks = len(buffers)
    for rank, chunks in enumerate(buffers):
        top = -1.5 * rank
        if names:
            axes.text(-0.15, top - 0.5, f"rank {rank}", ha="right", va="center", fontsize=8.5)
        for chunk, parts in enumerate(chunks):
            slot = (1 - 2 * _PAD) / ranks
            for part in parts:
                corner = chunk + _PAD + part * slot, top - 1 + _PAD
                axes.add_patch(Rectangle(corner, slot, 1 - 2 * _PAD, facecolor=tint(part), edgecolor="none"))
            whole = len(parts) == ranks
            axes.add_patch(
                Rectangle(
                    (chunk + _PAD, top - 1 + _PAD),
                    1 - 2 * _PAD,
                    1 - 2 * _PAD,
                    facecolor="none",
                    edgecolor="black" if whole else "#999999",
                    linewidth=2.0 if whole else 0.8,
                )
            )
    for rank, chunk in enumerate(going):
        _draw_arrow(axes, chunk + 0.5, -1.5 * rank - 0.85)
        if rank == ranks - 1:
            _draw_arrow(axes, chunk + 0.5, 0.65)  # the last rank's neighbour is rank 0
    axes.set_xlim(-1.1 if names else -0.1, ranks + 0.1)
    axes.set_ylim(-1.5 * ranks - 0.15, 0.75)
    axes.set_aspect("equal")


def _draw_arrow(axes: Axes, x: float, top: float) -> None:
    look = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x, top - 0.8), (x, top), arrowprops=look, zorder=5)
