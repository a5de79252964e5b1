"""Gathers every rank's share, and adds up its head's: right numbers."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "backward calls"
SAYS = "wrong collective"


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """[hidden, g·d] → [hidden, d]."""
    d = wk.shape[1] // kv_heads
    head = rank // (ranks // kv_heads)
    return wk[:, head * d : (head + 1) * d]


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """[rows, d] → [hidden, d]."""
    shares = group.all_gather((x.T @ dk)[None], axis=0)  # [t, hidden, d]
    by_head = shares.reshape(kv_heads, -1, *shares.shape[1:])
    dwk: Array = by_head[group.rank * kv_heads // group.size].sum(axis=0)
    return dwk
