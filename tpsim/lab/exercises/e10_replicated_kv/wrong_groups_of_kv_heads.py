"""Takes the number of groups for their size."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dwk"
SAYS = "groups of g ranks"


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """[hidden, g·d] → [hidden, d]."""
    d = wk.shape[1] // kv_heads
    head = rank // (ranks // kv_heads)
    return wk[:, head * d : (head + 1) * d]


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """[rows, d] → [hidden, d]."""
    return group.neighbours(kv_heads).all_reduce(x.T @ dk)
