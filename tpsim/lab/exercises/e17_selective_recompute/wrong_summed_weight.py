"""All-reduces dW, whose rows are this rank's own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dw"
SAYS = "summed needlessly"


def core(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """[heads/t, seq, size] three times → P [heads/t, seq, seq] and O [seq, heads/t · size]."""
    heads, seq, size = q.shape
    s = q @ k.transpose(0, 2, 1) / np.sqrt(size).astype(q.dtype)
    s = np.where(np.tri(seq, dtype=bool), s, -np.inf)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p, (p @ v).transpose(1, 0, 2).reshape(seq, heads * size)


def forward(q: Array, k: Array, v: Array, w: Array, group: Group) -> tuple[Array, Any]:
    """[heads/t, seq, size] three times → [seq, out]."""
    _, o = core(q, k, v)
    return group.all_reduce(o @ w), (q, k, v)


def backward(dy: Array, saved: Any, w: Array, group: Group) -> tuple[Array, Array, Array, Array]:
    """[seq, out] → [heads/t, seq, size] three times and [heads/t · size, out]."""
    q, k, v = saved
    p, o = core(q, k, v)
    heads, seq, size = q.shape
    do = (dy @ w.T).reshape(seq, heads, size).transpose(1, 0, 2)
    dp = do @ v.transpose(0, 2, 1)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) / np.sqrt(size).astype(p.dtype)
    return ds @ k, ds.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ do, group.all_reduce(o.T @ dy)
