"""Blocks by reshaping, a GELU of its own, and the bias in the term of rank 0."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def cut(
    a: Array, bias_a: Array, b: Array, bias_b: Array, rank: int, ranks: int
) -> tuple[Array, Array, Array, Array]:
    """A by columns, B by rows."""
    by_columns = a.reshape(a.shape[0], ranks, -1)
    return (
        by_columns[:, rank],
        bias_a.reshape(ranks, -1)[rank],
        b.reshape(ranks, -1, b.shape[1])[rank],
        bias_b,
    )


def mlp(x: Array, a: Array, bias_a: Array, b: Array, bias_b: Array, group: Group) -> Array:
    """Let the bias enter the sum once."""
    term = gelu(x @ a + bias_a) @ b
    if group.rank == 0:
        term += bias_b
    return group.all_reduce(term)


def gelu(x: Array) -> Array:
    """Take x Φ(x), in the dtype of x."""
    y: Array = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return y.astype(x.dtype)
