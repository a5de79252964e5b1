"""The sum, then the bias."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    return group.all_reduce(x @ a) + b
