"""Computes dX's share past `matmul`."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "backward takes"
SAYS = "products unseen"


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    summing = group.iall_reduce(dy @ a.T)
    da = matmul(x.T, dy)
    return summing.wait(), da
