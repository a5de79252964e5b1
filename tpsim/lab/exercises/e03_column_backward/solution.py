"""f is an all-reduce."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, out/t]."""
    return x @ a


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    return group.all_reduce(dy @ a.T), x.T @ dy
