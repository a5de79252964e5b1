"""Each rank keeps its own term."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "missing sum"


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    return x @ a + b
