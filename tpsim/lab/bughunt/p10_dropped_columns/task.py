"""Patient 10 · Dropout inside the region, and the projection after it

y = dropout(h) A, with h cut by columns and A by rows. All ranks have the same seed, so that a run can be
repeated. Forward and backward draw the same mask, so nothing is kept::

        h = [ h₀ │ h₁ ]        the mask of one device is [rows, inner]

Complaint: every rank drops the right share, backward fits forward, and the loss falls. It falls otherwise at
every number of ranks, and dropout seems to help less than it should.

Contract
--------
One device draws np.random.default_rng(seed).random((rows, inner)) and keeps what is ≥ rate; what is kept is
divided by 1 − rate. t ranks must drop the same entries.

forward   h [rows, inner/t], a [inner/t, hidden], seed, rate → y [rows, hidden], the same on every rank.
          One all-reduce.
backward  dy [rows, hidden] (the same on every rank), a, seed, rate → dh [rows, inner/t].
          No communication.

Run it with: tpsim lab bugs run 10
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def drop(x: Array, seed: int, rate: float, group: Group) -> Array:
    """Drop entries of this rank's columns, and scale the others: [rows, inner/t], same shape."""
    rows, n = x.shape
    kept = np.random.default_rng(seed).random((rows, n)) >= rate
    return np.where(kept, x / (1 - rate), np.zeros_like(x))


def forward(h: Array, a: Array, seed: int, rate: float, group: Group) -> Array:
    """[rows, inner/t] → [rows, hidden]."""
    return group.all_reduce(drop(h, seed, rate, group) @ a)


def backward(dy: Array, a: Array, seed: int, rate: float, group: Group) -> Array:
    """[rows, hidden] → [rows, inner/t]."""
    return drop(dy @ a.T, seed, rate, group)
