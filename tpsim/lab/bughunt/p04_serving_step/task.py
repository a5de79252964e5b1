"""Patient 4 · One step of a server: how many requests fit, then a layer

Each rank keeps the cache of its own heads, in blocks, and counts its free ones. The ranks must take up the
same requests. Then comes the model, of which one row-parallel product stands here for all::

        y = x₀ A₀ + x₁ A₁        x is cut by columns, A by rows

Free blocks are nearly always the same on every rank. But a rank that is slow to give some back has one less
for a moment.

Complaint: runs for hours, and then hangs, under load only. No error, until a watchdog ends it after five
minutes.

Contract
--------
need (how many requests wait, the same on every rank), free (how many fit on this rank), x [rows, inner/t],
a [inner/t, hidden] → taken, the number of requests that are taken up: as many as wait, or as fit on the rank
with the least room; and y [rows, hidden]. Both the same on every rank.

Run it with: tpsim lab bugs run 4
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def fit_everywhere(free: int, group: Group) -> int:
    """Return what fits on the rank with the least room."""
    room = group.all_gather(np.array([free]))
    return int(room.min())


def admit(need: int, free: int, group: Group) -> int:
    """Return how many of the waiting requests are taken up in this step."""
    if free >= need:
        return need  # the usual case: there is room, and nothing to talk about
    return min(need, fit_everywhere(free, group))


def step(need: int, free: int, x: Array, a: Array, group: Group) -> tuple[Array, Array]:
    """Admit requests, and run the layer: [rows, inner/t] → taken, and [rows, hidden]."""
    taken = admit(need, free, group)
    y = group.all_reduce(x @ a)
    return np.array(taken), y
