"""Copies of a head are left to themselves (bigcode Megatron-LM#37)."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dwk"
SAYS = "missing sum"


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """[hidden, g·d] → [hidden, d]."""
    d = wk.shape[1] // kv_heads
    head = rank // (ranks // kv_heads)
    return wk[:, head * d : (head + 1) * d]


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """[rows, d] → [hidden, d]."""
    return x.T @ dk
