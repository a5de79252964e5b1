"""Joins the chunks in the order in which they arrive."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "whole"
SAYS = "order of arrival"


def pass_on(chunk: Array, group: Group) -> Array:
    """Send a chunk to the right; return the one from the left."""
    sending = group.isend(chunk, (group.rank + 1) % group.size)
    arrived = group.recv(chunk, (group.rank - 1) % group.size)
    sending.wait()
    return arrived


def reduce_scatter(x: Array, group: Group) -> Array:
    """[N] → [N/t]."""
    r, t = group.rank, group.size
    chunks = np.split(x.copy(), t)
    for step in range(t - 1):
        chunks[(r - 2 - step) % t] += pass_on(chunks[(r - 1 - step) % t], group)
    return chunks[r]


def all_gather(own: Array, group: Group) -> Array:
    """Append."""
    came = [own]
    for _ in range(group.size - 1):
        came.append(pass_on(came[-1], group))
    return np.concatenate(came)


def all_reduce(x: Array, group: Group) -> Array:
    """[N] → [N]."""
    return all_gather(reduce_scatter(x, group), group)
