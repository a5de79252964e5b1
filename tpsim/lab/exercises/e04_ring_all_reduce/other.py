"""The ring turned the other way; even ranks send first and odd ones receive first, so that all may block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def pass_left(chunk: Array, group: Group) -> Array:
    """Send a chunk to the left; return the one from the right."""
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    if group.rank % 2 == 0:
        group.send(chunk, left)
        return group.recv(chunk, right)
    arrived = group.recv(chunk, right)
    group.send(chunk, left)
    return arrived


def reduce_scatter(x: Array, group: Group) -> Array:
    """Carry one running sum, and leave x alone."""
    mine = x.reshape(group.size, -1)
    running = mine[(group.rank + 1) % group.size]
    for step in range(2, group.size + 1):
        running = pass_left(running, group) + mine[(group.rank + step) % group.size]
    chunk: Array = running.copy()
    return chunk


def all_gather(own: Array, group: Group) -> Array:
    """Collect in order of arrival, then turn into rank order."""
    came = [own]
    for _ in range(group.size - 1):
        came.append(pass_left(came[-1], group))
    whole: Array = np.roll(np.stack(came), group.rank, axis=0).ravel()
    return whole


def all_reduce(x: Array, group: Group) -> Array:
    """[N] → [N]."""
    return all_gather(reduce_scatter(x, group), group)
