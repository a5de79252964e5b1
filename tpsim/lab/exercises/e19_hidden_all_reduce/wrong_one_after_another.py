"""Exercise 3's solution: right, and nothing is hidden."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "backward takes"
SAYS = "not hidden"


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    return group.all_reduce(matmul(dy, a.T)), matmul(x.T, dy)
