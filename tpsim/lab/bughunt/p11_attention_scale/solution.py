"""Patient 11 · Attention on heads that are cut

Each rank has heads/t heads: its columns of W_q, W_k and W_v, its rows of W_out. The scores of a head are its
queries times its keys, divided by the square root of the head's size::

        softmax( Q Kᵀ / √d ) V        for each head, d = width / heads

Complaint: none, for months. A test holds that t ranks equal one, to the last digit, and it passes. Then
somebody loads weights from elsewhere, and gets other text than elsewhere.

Contract
--------
x [rows, hidden] (the same on every rank), w_q, w_k, w_v [hidden, width/t], w_out [width/t, hidden],
head (the size d of a head) → y [rows, hidden], the same on every rank. One all-reduce.

Run it with: tpsim lab bugs run 11
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    p: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def by_heads(x: Array, head: int) -> Array:
    """[rows, width/t] → [heads/t, rows, d]."""
    return x.reshape(len(x), -1, head).swapaxes(0, 1)


def attention(x: Array, w_q: Array, w_k: Array, w_v: Array, w_out: Array, head: int, group: Group) -> Array:
    """[rows, hidden] → [rows, hidden]."""
    rows = len(x)
    q, k, v = (by_heads(x @ weight, head) for weight in (w_q, w_k, w_v))
    scores = q @ k.swapaxes(1, 2) / head**0.5
    output = (softmax(scores) @ v).swapaxes(0, 1).reshape(rows, -1)
    return group.all_reduce(output @ w_out)
