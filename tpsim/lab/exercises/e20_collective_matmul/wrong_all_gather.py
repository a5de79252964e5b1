"""One all-gather, then one product: right, and nothing is hidden."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "gathered_product calls"
SAYS = "wrong collective"


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    return matmul(group.all_gather(x, axis=0), a)
