"""All heads at once, a softmax of its own, and the queries of a group as one axis."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def attend(x: Array, wq: Array, wk: Array, wv: Array, size: int, group: Group) -> Array:
    """Take axes k (key and value heads), n (queries of each), q and s (places), d."""
    seq, kv_heads = x.shape[0], wk.shape[1] // size
    q = (x @ wq).reshape(seq, kv_heads, -1, size)
    k, v = (x @ wk).reshape(seq, kv_heads, size), (x @ wv).reshape(seq, kv_heads, size)
    weights = np.exp(np.einsum("qknd,skd->knqs", q, k) / math.sqrt(size)) * np.tri(seq, dtype=x.dtype)
    weights /= weights.sum(axis=-1, keepdims=True)
    out: Array = np.einsum("knqs,skd->qknd", weights, v).reshape(seq, -1)
    return out


def attention(x: Array, wq: Array, wk: Array, wv: Array, wo: Array, size: int, group: Group) -> Array:
    """Add up head by head, then over ranks."""
    heads = np.split(attend(x, wq, wk, wv, size, group), wo.shape[0] // size, axis=1)
    term = sum(head @ w for head, w in zip(heads, np.split(wo, len(heads)), strict=True))
    return group.iall_reduce(np.asarray(term)).wait()
