"""Sums the table's gradient over ranks, as if they had the same rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dtable"
SAYS = "summed needlessly"


def here(tokens: Array, table: Array, group: Group) -> tuple[Array, Array]:
    """Return each token's row in this rank's table (0 for others'), and whether the token is this rank's."""
    row = tokens - group.rank * len(table)
    mine = (row >= 0) & (row < len(table))
    return np.where(mine, row, 0), mine


def forward(tokens: Array, table: Array, group: Group) -> Array:
    """[n] → [n, hidden]."""
    row, mine = here(tokens, table, group)
    return group.all_reduce(np.where(mine[:, None], table[row], 0))


def backward(tokens: Array, dy: Array, table: Array, group: Group) -> Array:
    """[n, hidden] → [V/t, hidden]."""
    row, mine = here(tokens, table, group)
    dtable = np.zeros_like(table)
    np.add.at(dtable, row[mine], dy[mine])
    return group.all_reduce(dtable)
