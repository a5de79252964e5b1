"""Rank r has head r % g."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "mine"
SAYS = "dealt like cards"
SMALLEST = "t = 4,"


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """[hidden, g·d] → [hidden, d]."""
    d = wk.shape[1] // kv_heads
    head = rank % kv_heads
    return wk[:, head * d : (head + 1) * d]


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """[rows, d] → [hidden, d]."""
    return group.neighbours(group.size // kv_heads).all_reduce(x.T @ dk)
