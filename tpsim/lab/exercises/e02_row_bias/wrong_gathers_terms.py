"""A right y, at t/2 times the bytes: gathers all terms and adds them up."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "row_linear calls"
SAYS = "wrong collective"


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    terms = group.all_gather((x @ a)[None], axis=0)
    total: Array = terms.sum(axis=0)
    return total + b
