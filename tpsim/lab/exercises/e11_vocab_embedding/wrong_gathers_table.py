"""Gathers the table: right numbers, and no rank can hold it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "forward calls"
SAYS = "wrong collective"


def here(tokens: Array, table: Array, group: Group) -> tuple[Array, Array]:
    """Return each token's row in this rank's table (0 for others'), and whether the token is this rank's."""
    row = tokens - group.rank * len(table)
    mine = (row >= 0) & (row < len(table))
    return np.where(mine, row, 0), mine


def forward(tokens: Array, table: Array, group: Group) -> Array:
    """[n] → [n, hidden]."""
    return group.all_gather(table, axis=0)[tokens]


def backward(tokens: Array, dy: Array, table: Array, group: Group) -> Array:
    """[n, hidden] → [V/t, hidden]."""
    row, mine = here(tokens, table, group)
    dtable = np.zeros_like(table)
    np.add.at(dtable, row[mine], dy[mine])
    return dtable
