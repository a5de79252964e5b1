"""Every rank sends before any receives."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "part"
SAYS = "deadlock"


def pass_on(chunk: Array, group: Group) -> Array:
    """Block in the send."""
    group.send(chunk, (group.rank + 1) % group.size)
    return group.recv(chunk, (group.rank - 1) % group.size)


def reduce_scatter(x: Array, group: Group) -> Array:
    """[N] → [N/t]."""
    r, t = group.rank, group.size
    chunks = np.split(x.copy(), t)
    for step in range(t - 1):
        chunks[(r - 2 - step) % t] += pass_on(chunks[(r - 1 - step) % t], group)
    return chunks[r]


def all_gather(own: Array, group: Group) -> Array:
    """[N/t] → [N]."""
    r, t = group.rank, group.size
    chunks = [own] * t
    for step in range(t - 1):
        chunks[(r - 1 - step) % t] = pass_on(chunks[(r - step) % t], group)
    return np.concatenate(chunks)


def all_reduce(x: Array, group: Group) -> Array:
    """[N] → [N]."""
    return all_gather(reduce_scatter(x, group), group)
