"""Gathers Y in forward."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "gathered"


def forward(x: Array, a: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, out/t]."""
    return group.all_gather(x @ a, axis=1)


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    return group.all_reduce(dy @ a.T), x.T @ dy
