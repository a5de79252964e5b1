"""Everything goes to rank 0, which sends the sum back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "reduce_scatter sends"
SAYS = "too many bytes"


def pass_on(chunk: Array, group: Group) -> Array:
    """Send a chunk to the right; return the one from the left."""
    sending = group.isend(chunk, (group.rank + 1) % group.size)
    arrived = group.recv(chunk, (group.rank - 1) % group.size)
    sending.wait()
    return arrived


def reduce_scatter(x: Array, group: Group) -> Array:
    """Cut the whole sum."""
    return np.split(all_reduce(x, group), group.size)[group.rank]


def all_gather(own: Array, group: Group) -> Array:
    """[N/t] → [N]."""
    r, t = group.rank, group.size
    chunks = [own] * t
    for step in range(t - 1):
        chunks[(r - 1 - step) % t] = pass_on(chunks[(r - step) % t], group)
    return np.concatenate(chunks)


def all_reduce(x: Array, group: Group) -> Array:
    """Let rank 0 add up."""
    if group.rank > 0:
        group.send(x, 0)
        return group.recv(x, 0)
    total = x.copy()
    for other in range(1, group.size):
        total += group.recv(x, other)
    for other in range(1, group.size):
        group.send(total, other)
    return total
