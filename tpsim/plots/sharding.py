"""Pictures of cut matrices: an equation of blocks, coloured by the rank that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from tpsim.plots.style import COLOURS, new_figure

_NOBODY = -1  # of a matrix that every rank has whole
_WHOLE, _EDGE = "#e8e8e8", "#888888"
_INCH = 0.34  # of a cell
_HEAD = 1.6  # cells, for the words above an equation and the room below


@dataclass(frozen=True)
class Matrix:
    """A matrix, and which rank holds which of its rows or columns.

    Parameters
    ----------
    name : str
        Above it.
    shape : (int, int)
        Rows and columns, as they are drawn.
    owners : sequence of int
        The rank of each column (`axis` 1) or of each row (`axis` 0). Empty: every rank has all of it.
    axis : {0, 1}
    values : array, optional
        Numbers to write into the cells.
    blocks : sequence of str
        A name for each stretch of one owner; "rank 0", … by default.
    """

    name: str
    shape: tuple[int, int]
    owners: Sequence[int] = ()
    axis: int = 1
    values: NDArray[Any] | None = None
    blocks: Sequence[str] = ()


def evenly(length: int, ranks: int) -> list[int]:
    """Return the owners of rows or columns that are cut evenly: `evenly(4, 2)` is [0, 0, 1, 1]."""
    return [i * ranks // length for i in range(length)]


def sharding(equations: Mapping[str, Sequence[Matrix | str]], title: str = "") -> Figure:
    """Draw equations of matrices, one below the other, to one scale.

    Parameters
    ----------
    equations : mapping
        By what stands above it, an equation: matrices, and signs between them such as "·" and "=".
    title : str
    """
    extents = [_extent([item for item in row if isinstance(item, Matrix)]) for row in equations.values()]
    height = sum(above + below + _HEAD for above, below in extents)
    width = max(sum(map(_width, row)) for row in equations.values())
    figure = new_figure(_INCH * width + 0.4, _INCH * (height + 2.0 * bool(title)) + 0.4)
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.set_axis_off()
    top = 0.0
    for (words, row), (above, below) in zip(equations.items(), extents, strict=True):
        axes.text(0, top - 0.5, words, fontsize=10.5, va="center", style="italic")
        _draw_equation(axes, row, middle=top - 1.0 - above)
        top -= above + below + _HEAD
    axes.set_xlim(-0.2, width)
    axes.set_ylim(top, 0)
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold")
    ranks = sorted({r for row in equations.values() for m in row if isinstance(m, Matrix) for r in m.owners})
    patches = [
        Patch(facecolor=tint(r), edgecolor=COLOURS[r % len(COLOURS)], label=f"rank {r}") for r in ranks
    ]
    if any(isinstance(m, Matrix) and not len(m.owners) for row in equations.values() for m in row):
        patches.append(Patch(facecolor=_WHOLE, edgecolor=_EDGE, label="whole, on every rank"))
    figure.legend(handles=patches, loc="outside lower left", ncols=5, frameon=False, fontsize=9)
    return figure


def tint(rank: int) -> tuple[float, float, float]:
    """Return a rank's colour, light enough for black numbers on it."""
    red, green, blue = (0.45 * channel + 0.55 for channel in to_rgb(COLOURS[rank % len(COLOURS)]))
    return red, green, blue


def _width(item: Matrix | str) -> float:
    if isinstance(item, str):
        return 0.9 + 0.45 * len(item)
    return item.shape[1] + (0.9 if item.axis == 0 and len(item.owners) else 0.0) + 0.4


def _extent(row: Sequence[Matrix]) -> tuple[float, float]:
    """Return how far an equation reaches above and below its middle, names included."""
    names = [1.7 if matrix.axis == 1 and len(matrix.owners) else 1.0 for matrix in row]
    halves = [matrix.shape[0] / 2 for matrix in row]
    return max(half + name for half, name in zip(halves, names, strict=True)), max(halves)


def _draw_equation(axes: Axes, row: Sequence[Matrix | str], middle: float) -> None:
    x = 0.0
    for item in row:
        if isinstance(item, str):
            size = 20 if item == "·" else 13
            axes.text(x + _width(item) / 2 - 0.2, middle, item, ha="center", va="center", fontsize=size)
        else:
            _draw_matrix(axes, item, x + _width(item) - item.shape[1] - 0.4, middle + item.shape[0] / 2)
        x += _width(item)


def _draw_matrix(axes: Axes, matrix: Matrix, left: float, top: float) -> None:
    rows, columns = matrix.shape
    by_columns = matrix.axis == 1
    place = 0
    owners = matrix.owners if len(matrix.owners) else [_NOBODY] * matrix.shape[matrix.axis]
    for number, (owner, stretch) in enumerate(groupby(owners)):
        length = len(list(stretch))
        if by_columns:
            _draw_block(axes, owner, (left + place, top - rows, length, rows))
        else:
            _draw_block(axes, owner, (left, top - place - length, columns, length))
        if owner != _NOBODY:
            text = matrix.blocks[number] if matrix.blocks else f"rank {owner}"
            if by_columns:
                axes.text(left + place + length / 2, top + 0.15, text, ha="center", va="bottom", fontsize=8)
            else:
                axes.text(left - 0.15, top - place - length / 2, text, ha="right", va="center", fontsize=8)
        place += length
    grid: dict[str, Any] = {"colors": "white", "linewidth": 0.7, "zorder": 3}
    axes.hlines([top - i for i in range(1, rows)], left, left + columns, **grid)
    axes.vlines([left + i for i in range(1, columns)], top - rows, top, **grid)
    lift = 0.95 if by_columns and len(matrix.owners) else 0.2
    name: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 11, "fontweight": "bold"}
    axes.text(left + columns / 2, top + lift, matrix.name, **name)
    if matrix.values is not None:
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 5}
        for (i, j), value in np.ndenumerate(matrix.values):
            axes.text(left + j + 0.5, top - i - 0.5, f"{value:g}", **look)


def _draw_block(axes: Axes, owner: int, box: tuple[float, float, float, float]) -> None:
    x, y, width, height = box
    face, edge = (_WHOLE, _EDGE) if owner == _NOBODY else (tint(owner), COLOURS[owner % len(COLOURS)])
    axes.add_patch(Rectangle((x, y), width, height, facecolor=face, zorder=2))
    inside = (
        (x + 0.05, y + 0.05),
        width - 0.1,
        height - 0.1,
    )  # so that neighbours' edges don't hide each other
    axes.add_patch(Rectangle(*inside, facecolor="none", edgecolor=edge, linewidth=2.0, zorder=4))
