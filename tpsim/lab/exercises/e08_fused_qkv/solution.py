"""Three pieces, each cut by itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


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
    """Gather the shares; then all Q, all K, all V."""
    t = group.size
    shares = np.split(group.all_gather(share, axis=1), t, axis=1)
    by_rank = [pieces(one, heads // t, kv_heads // t) for one in shares]
    return np.concatenate([by_rank[rank][piece] for piece in range(3) for rank in range(t)], axis=1)
