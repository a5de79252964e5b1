"""Waits, and returns its own share (Megatron#5337)."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "dx"
SAYS = "missing sum"


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    share = matmul(dy, a.T)
    summing = group.iall_reduce(share)
    da = matmul(x.T, dy)
    summing.wait()
    return share, da
