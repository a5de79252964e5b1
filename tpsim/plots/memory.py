"""A picture of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tpsim.plots.style import in_bytes, look, new_figure, plain
from tpsim.trace import Trace
from tpsim.trace.tables import human_bytes


def memory(traces: Sequence[Trace], one_device: Trace) -> Figure:
    """Draw what one device and each rank keep: parameters, gradients, saved activations.

    Parameters
    ----------
    traces : sequence of Trace
        One a rank.
    one_device : Trace
        The same pass on one rank, to compare with.
    """
    columns = [one_device, *traces]
    figure = new_figure(width=min(14.0, max(8.0, 0.8 * len(columns) + 4)))
    axes = figure.subplots()
    bottom = np.zeros(len(columns))
    for position, (label, sizes) in enumerate(_kinds(columns).items()):
        axes.bar(np.arange(len(columns)), sizes, 0.7, bottom=bottom, label=label, **look(position))
        bottom += sizes
    few = len(columns) <= 12
    for at, height in enumerate(bottom):
        if few or at < 2:
            axes.text(at, height, human_bytes(height), ha="center", va="bottom", fontsize=8)
    names = [f"rank {rank}" if few else str(rank) for rank in range(len(traces))]
    axes.set_xticks(np.arange(len(columns)), ["one device" if few else "one", *names])
    axes.set_xlabel("" if few else "one device, then the ranks")
    axes.set_ylim(0, max(*bottom, 1) * 1.12)
    plain(axes, "parameters, their gradients, and what forward saves for backward", "bytes")
    in_bytes(axes, max(*bottom, 1))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _kinds(columns: Sequence[Trace]) -> dict[str, NDArray[np.float64]]:
    """Return, by kind of memory from bottom to top, its bytes in every column."""
    kinds = {
        "parameters": [sum(p.nbytes for p in trace.parameters) for trace in columns],
        "gradients": [sum(p.grad_bytes for p in trace.parameters) for trace in columns],
    }
    saved = [_by_part(trace) for trace in columns]
    for part in dict.fromkeys(part for sizes in saved for part in sizes):
        kinds[f"saved by {part}"] = [sizes.get(part, 0) for sizes in saved]
    return {label: np.array(sizes, dtype=float) for label, sizes in kinds.items()}


def _by_part(trace: Trace) -> dict[str, int]:
    """Return saved bytes by the part of the block (or of the model) that a layer belongs to."""
    sizes: dict[str, int] = {}
    for layer, nbytes in trace.saved_by_layer().items():
        names = [name for name in layer.split(".") if name != "blocks" and not name.isdigit()]
        part = names[0].rstrip("0123456789") if names else "layers"
        sizes[part] = sizes.get(part, 0) + nbytes
    return sizes
