"""One head after another, row by row, as flash attention goes; keeps one stacked array."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def row(q: Array, k: Array) -> Array:
    """Return what the last position sees of each: [size], [keys, size] → [keys]."""
    e = np.exp(k @ q / q.dtype.type(q.size**0.5))
    p: Array = e / e.sum()
    return p


def forward(q: Array, k: Array, v: Array, w: Array, group: Group) -> tuple[Array, Any]:
    """[heads/t, seq, size] three times → [seq, out]."""
    heads, seq, size = q.shape
    o = np.empty_like(q, shape=(seq, heads, size))
    for h, i in np.ndindex(heads, seq):
        o[i, h] = row(q[h, i], k[h, : i + 1]) @ v[h, : i + 1]
    return group.all_reduce(o.reshape(seq, -1) @ w), np.stack([q, k, v])


def backward(dy: Array, saved: Any, w: Array, group: Group) -> tuple[Array, Array, Array, Array]:
    """[seq, out] → [heads/t, seq, size] three times and [heads/t · size, out]."""
    q, k, v = saved
    heads, seq, size = q.shape
    do = (dy @ w.T).reshape(seq, heads, size)
    o = np.empty_like(do)
    dq, dk, dv = np.zeros_like(saved)
    for h, i in np.ndindex(heads, seq):
        p = row(q[h, i], k[h, : i + 1])
        o[i, h] = p @ v[h, : i + 1]
        ds = p * (v[h, : i + 1] @ do[i, h] - do[i, h] @ o[i, h]) / q.dtype.type(size**0.5)
        dq[h, i] = ds @ k[h, : i + 1]
        dk[h, : i + 1] += np.outer(ds, q[h, i])
        dv[h, : i + 1] += np.outer(p, do[i, h])
    return dq, dk, dv, o.reshape(seq, -1).T @ dy
