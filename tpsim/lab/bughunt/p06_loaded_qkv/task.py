"""Patient 6 · Attention, loaded from a checkpoint

The checkpoint holds one fused weight: the columns of all queries, then of all keys, then of all values, head
after head in each. A rank takes its columns, and has heads/t whole heads::

        W_qkv  [hidden, 3 · width]  =  [ Q │ K │ V ]        width = heads · head size

Each rank attends with its heads, and multiplies by its rows of W_out; the sum over ranks is y.

Complaint: a model that was trained on one rank writes well on one. On two, from the same checkpoint, it
writes noise. A model that was trained on two ranks from the start is fine on two.

Contract
--------
x [rows, hidden] (the same on every rank), w_qkv [hidden, 3 · width] (whole), w_out [width/t, hidden] (this
rank's rows), head (the size of a head) → y [rows, hidden], the same on every rank. One all-reduce.

Run it with: tpsim lab bugs run 6
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def own_columns(weight: Array, group: Group) -> Array:
    """Return this rank's columns of a column-parallel weight: [hidden, n] → [hidden, n/t]."""
    return np.split(weight, group.size, axis=1)[group.rank]


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    p: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def attend(q: Array, k: Array, v: Array, head: int) -> Array:
    """Attend in each head apart: [rows, width/t] → [rows, width/t]."""
    outputs = []
    for start in range(0, q.shape[1], head):
        own = slice(start, start + head)
        p = softmax(q[:, own] @ k[:, own].T / head**0.5)
        outputs.append(p @ v[:, own])
    return np.concatenate(outputs, axis=1)


def attention(x: Array, w_qkv: Array, w_out: Array, head: int, group: Group) -> Array:
    """[rows, hidden] → [rows, hidden]."""
    qkv = x @ own_columns(w_qkv, group)
    q, k, v = np.split(qkv, 3, axis=1)
    return group.all_reduce(attend(q, k, v, head) @ w_out)
