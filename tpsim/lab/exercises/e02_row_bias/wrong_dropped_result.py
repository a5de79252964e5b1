"""Calls the all-reduce, and drops what it returns."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "missing sum"


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    term = x @ a
    group.all_reduce(term)
    return term + b
