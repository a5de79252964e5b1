"""A picture of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tpsim.plots.style import COLOURS, new_figure, plain


def loss(metrics: Sequence[Mapping[str, Any]], bigram: float | None = None) -> Figure:
    """Draw the loss of every step, and the held-out loss where it was looked at.

    Parameters
    ----------
    metrics : sequence of mapping
        The lines of a metrics.jsonl: "step", "loss", and "held_out" or None.
    bigram : float, optional
        The held-out loss of a byte bigram, to compare with.
    """
    figure = new_figure()
    axes = figure.subplots()
    steps = [one["step"] for one in metrics]
    axes.plot(steps, [one["loss"] for one in metrics], color=COLOURS[1], linewidth=0.9, label="training")
    looked = [(one["step"], one["held_out"]) for one in metrics if one["held_out"] is not None]
    at, held_out = [one[0] for one in looked], [one[1] for one in looked]
    axes.plot(at, held_out, color=COLOURS[0], marker="o", markersize=4, label="held out")
    if bigram is not None:
        axes.axhline(bigram, color=COLOURS[3], linestyle="--", linewidth=1, label="byte bigram, held out")
    title = f"loss after {steps[-1]} steps"
    plain(axes, f"{title}: {looked[-1][1]:.3f} held out" if looked else title, "nats a byte")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    return figure
