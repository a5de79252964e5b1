"""An index of columns says where everything goes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def columns_of(heads: int, kv_heads: int, size: int, rank: int, ranks: int) -> Array:
    """Return the columns of w that a rank has, in its order."""
    starts, lengths = np.cumsum([0, heads, kv_heads]), np.array([heads, kv_heads, kv_heads]) // ranks
    whose = [start + n * rank + np.arange(n) for start, n in zip(starts, lengths, strict=True)]
    first: Array = np.concatenate(whose) * size
    return (first[:, None] + np.arange(size)).ravel()


def cut(w: Array, heads: int, kv_heads: int, rank: int, ranks: int) -> Array:
    """Pick columns."""
    return w[:, columns_of(heads, kv_heads, w.shape[1] // (heads + 2 * kv_heads), rank, ranks)]


def split_heads(y: Array, heads: int, kv_heads: int, ranks: int) -> tuple[Array, Array, Array]:
    """All heads first, then the three kinds."""
    by_head = np.stack(np.split(y, (heads + 2 * kv_heads) // ranks, axis=1))
    n, m = heads // ranks, kv_heads // ranks
    return by_head[:n], by_head[n : n + m], by_head[n + m :]


def join(share: Array, heads: int, kv_heads: int, group: Group) -> Array:
    """Put every column where it was cut from."""
    size = share.shape[1] * group.size // (heads + 2 * kv_heads)
    gathered = group.all_gather(share, axis=1)
    order = [columns_of(heads, kv_heads, size, rank, group.size) for rank in range(group.size)]
    w = np.empty_like(gathered)
    w[:, np.concatenate(order)] = gathered
    return w
