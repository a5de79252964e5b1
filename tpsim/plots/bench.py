"""A picture of what this machine was measured at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tpsim.plots.style import line, look, new_figure, plain

Rows = Sequence[Mapping[str, Any]]
_GIGA, _MEGA = 1e9, 1e6
_SHOWN = ("ring", "ring, by messages", "mpi")  # of all algorithms: those that differ by more than a little


def bench(sections: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the sections of a run: bars of speed and memory, and collectives as lines over their size.

    Parameters
    ----------
    sections : sequence of mapping
        With "name" and "rows", as `Bench.to_dict` gives them.
    """
    panels = [panel for section in sections for panel in _panels(section["name"], section["rows"])]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(width=7.5 * columns, height=4.4 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for place, draw in zip(axes, panels, strict=False):
        draw(place)
    for rest in axes[len(panels) :]:
        rest.set_axis_off()
    return figure


def _panels(name: str, rows: Rows) -> list[Callable[[Axes], None]]:
    if name == "collectives":
        return [
            partial(_over_size, operation=operation, rows=rows)
            for operation in _names(row["what"].split(" ")[0] for row in rows if row["what"] != "copy")
        ]
    if name == "memory":
        return [partial(_memory, rows=rows)]
    titles = {
        "gemm": "matrix products",
        "block": "a block, forward and backward",
        "train": "a training step",
    }
    return [partial(_speeds, title=titles[name], rows=rows)]


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _speeds(axes: Axes, title: str, rows: Rows) -> None:
    """Draw a group of bars for each contender, one bar for each thing that it ran."""
    who, what = _names(row["who"] for row in rows), _names(row["what"] for row in rows)
    height = 0.8 / len(what)
    for place, one in enumerate(what):
        own = [row for row in rows if row["what"] == one]
        at = np.array([who.index(row["who"]) for row in own]) + (place - (len(what) - 1) / 2) * height
        axes.barh(at, [row["rate"] / _GIGA for row in own], height, label=one, **look(place))
    _contenders(axes, title, who)
    axes.set_xlabel("GFLOP/s")
    _legend(axes)


def _memory(axes: Axes, rows: Rows) -> None:
    """Draw what a process held at most beside what its trace counts."""
    at = np.arange(len(rows))
    for place, (label, key) in enumerate({"held at most": "value", "counted by the trace": "bound"}.items()):
        axes.barh(at + 0.4 * place - 0.2, [row[key] / _MEGA for row in rows], 0.4, label=label, **look(place))
    _contenders(axes, "memory of a training step", [row["what"] for row in rows])
    axes.set_xlabel("MB")
    _legend(axes)


def _contenders(axes: Axes, title: str, names: Sequence[str]) -> None:
    plain(axes, title, "")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.yaxis.grid(False)
    axes.xaxis.grid(True, color="#dddddd", linewidth=0.8)


def _over_size(axes: Axes, operation: str, rows: Rows) -> None:
    """Draw the bytes that are moved a second, over the size of the whole array."""
    own = [row for row in rows if row["what"].startswith(f"{operation} ")]
    sizes = _names(row["what"].split(" ", 1)[1] for row in own)
    who = [name for name in _names(row["who"] for row in own) if name.split(": ")[1] in _SHOWN]
    for place, name in enumerate(who):
        of = [row for row in own if row["who"] == name]
        at = [sizes.index(row["what"].split(" ", 1)[1]) for row in of]
        axes.plot(at, [row["rate"] / _GIGA for row in of], label=name, **line(place))
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("the whole array")
    axes.set_yscale("log")
    plain(axes, f"{operation.replace('_', '-')} by size", "GB/s")
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8)
