"""Transposed products, and a buffer of its own for the sum."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    dx = np.empty_like(x)
    summing = group.iall_reduce(matmul(a, dy.T).T, out=dx)
    da = matmul(dy.T, x).T
    summing.wait()
    return dx, da
