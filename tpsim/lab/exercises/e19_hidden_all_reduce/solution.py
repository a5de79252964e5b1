"""dX's share first; its all-reduce runs while dA is computed."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    summing = group.iall_reduce(matmul(dy, a.T))
    da = matmul(x.T, dy)
    return summing.wait(), da
