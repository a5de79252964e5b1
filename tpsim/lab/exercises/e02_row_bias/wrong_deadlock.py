"""Only rank 0 calls the all-reduce."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "deadlock"


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    term = x @ a
    if group.rank == 0:
        term = group.all_reduce(term)
    return term + b
