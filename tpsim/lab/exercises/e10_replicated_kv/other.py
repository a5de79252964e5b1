"""A group of those who have the same head, by its number; a head alone on its rank sends nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """[hidden, g·d] → [hidden, d]."""
    by_head = wk.reshape(len(wk), kv_heads, -1)
    mine: Array = np.repeat(by_head, ranks // kv_heads, axis=1)[:, rank]
    return mine


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """[rows, d] → [hidden, d]."""
    share: Array = np.einsum("rh,rd->hd", x, dk)
    if kv_heads == group.size:
        return share
    head = group.rank * kv_heads // group.size
    sharing = group.split(color=head, name=f"head {head}")
    return sharing.iall_reduce(share).wait()
