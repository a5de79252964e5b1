"""Computes dA first, and has nothing left to hide the all-reduce behind."""

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
    da = matmul(x.T, dy)
    summing = group.iall_reduce(matmul(dy, a.T))
    return summing.wait(), da
