"""Patient 1 · The MLP of a server for text

y = relu(x A + b) C + c. A and its bias b are cut by columns; C is cut by rows, and every rank has all of c::

        x ──▶ [ A₀ │ A₁ ] ──▶ relu ──▶ ⎡ C₀ ⎤ ──▶ all-reduce ──▶ y
                                       ⎣ C₁ ⎦

Complaint: models without biases serve well on any number of ranks. One with biases is right on one, and
writes worse text the more ranks there are.

Contract
--------
x [rows, hidden] (the same on every rank), a [hidden, inner/t], b [inner/t], c_weight [inner/t, hidden],
c_bias [hidden] → y [rows, hidden], the same on every rank. One all-reduce of [rows, hidden].

Run it with: tpsim lab bugs run 1
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Return x · weight + bias, as one fused call does."""
    y: Array = x @ weight + bias
    return y


def column_parallel(x: Array, a: Array, b: Array) -> Array:
    """[rows, hidden] → [rows, inner/t]: columns of their own need nothing of other ranks."""
    return linear(x, a, b)


def row_parallel(h: Array, c_weight: Array, c_bias: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, hidden]."""
    partial = linear(h, c_weight, c_bias)
    return group.all_reduce(partial)


def mlp(x: Array, a: Array, b: Array, c_weight: Array, c_bias: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, hidden]."""
    h = np.maximum(column_parallel(x, a, b), 0)
    return row_parallel(h, c_weight, c_bias, group)
