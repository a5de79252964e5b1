"""Look-ups as products with one-hot rows: what is not here has a row of zeros by itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def onehot(tokens: Array, table: Array, group: Group) -> Array:
    """[n] → [n, V/t], 1 at this rank's tokens."""
    words = np.arange(len(table)) + group.rank * len(table)
    hit: Array = (tokens[:, None] == words).astype(table.dtype)
    return hit


def forward(tokens: Array, table: Array, group: Group) -> Array:
    """[n] → [n, hidden]."""
    y = onehot(tokens, table, group) @ table
    return group.all_reduce(y, out=y)


def backward(tokens: Array, dy: Array, table: Array, group: Group) -> Array:
    """[n, hidden] → [V/t, hidden]."""
    dtable: Array = onehot(tokens, table, group).T @ dy
    return dtable
