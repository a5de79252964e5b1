"""Gathers Q, K and V one by one: right numbers, and three latencies."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "join calls"
SAYS = "collective too many"


def pieces(w: Array, heads: int, kv_heads: int) -> list[Array]:
    """Return Q, K and V: the columns of so many heads each."""
    size = w.shape[1] // (heads + 2 * kv_heads)
    return np.split(w, [heads * size, (heads + kv_heads) * size], axis=1)


def cut(w: Array, heads: int, kv_heads: int, rank: int, ranks: int) -> Array:
    """Cut each piece."""
    mine = [np.split(piece, ranks, axis=1)[rank] for piece in pieces(w, heads, kv_heads)]
    return np.concatenate(mine, axis=1)


def split_heads(y: Array, heads: int, kv_heads: int, ranks: int) -> tuple[Array, Array, Array]:
    """[rows, heads · size] → [heads, rows, size], each piece."""
    size = y.shape[1] * ranks // (heads + 2 * kv_heads)
    q, k, v = pieces(y, heads // ranks, kv_heads // ranks)

    def by_head(piece: Array) -> Array:
        return piece.reshape(piece.shape[0], -1, size).swapaxes(0, 1)

    return by_head(q), by_head(k), by_head(v)


def join(share: Array, heads: int, kv_heads: int, group: Group) -> Array:
    """Gather each piece."""
    t = group.size
    q, k, v = (group.all_gather(piece, axis=1) for piece in pieces(share, heads // t, kv_heads // t))
    return np.concatenate([q, k, v], axis=1)
