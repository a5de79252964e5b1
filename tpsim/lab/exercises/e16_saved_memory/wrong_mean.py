"""Averages over the ranks (gpt-neox#1259)."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dx"
SAYS = "averaged"


def forward(x: Array, a: Array, group: Group) -> tuple[Array, Any]:
    """[seq/t, hidden] → [seq, out/t]."""
    return group.all_gather(x, axis=0) @ a, x


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array]:
    """[seq, out/t] → [seq/t, hidden] and [hidden, out/t]."""
    whole = group.all_gather(saved, axis=0)
    return group.reduce_scatter(dy @ a.T, axis=0) / group.size, whole.T @ dy
