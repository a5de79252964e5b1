"""Rank 0 returns before the all-reduce."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dx"
SAYS = "deadlock"


def forward(x: Array, a: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, out/t]."""
    return x @ a


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    share = dy @ a.T
    if group.rank == 0:
        return share, x.T @ dy
    return group.all_reduce(share), x.T @ dy
