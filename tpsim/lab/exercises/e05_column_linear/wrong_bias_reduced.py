"""Sums db over the ranks, as if every rank had the same b."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "db"
SAYS = "summed needlessly"


def forward(x: Array, a: Array, b: Array, group: Group) -> tuple[Array, Any]:
    """[batch, seq, hidden] → [batch, seq, out/t]."""
    return x @ a + b, x


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array, Array]:
    """[batch, seq, out/t] → [batch, seq, hidden], [hidden, out/t], [out/t]."""
    dx = group.all_reduce(dy @ a.T)
    rows_of_x, rows_of_dy = saved.reshape(-1, saved.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dx, rows_of_x.T @ rows_of_dy, group.all_reduce(dy.sum(axis=(0, 1)))
