"""Patient 2 · The first half of an MLP, in training

h = relu(x A + b), with A and b cut by columns. x is whole, and the same on every rank::

        x ──▶ [ A₀ │ A₁ ] ──▶ relu ──▶ [ h₀ │ h₁ ]

Complaint: the loss on two ranks begins where it begins on one, and the gradients of this layer are right to
the last digit. Yet training falls behind, and the layers below learn worst.

Contract
--------
forward   x [rows, hidden], a [hidden, inner/t], b [inner/t] → h [rows, inner/t], and what backward needs.
          No communication.
backward  dh [rows, inner/t] → dx [rows, hidden], da [hidden, inner/t], db [inner/t]. dx is the gradient of
          x, the same on every rank.

Run it with: tpsim lab bugs run 2
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, b: Array) -> tuple[Array, Any]:
    """[rows, hidden] → [rows, inner/t]."""
    z = x @ a + b
    return np.maximum(z, 0), (x, a, z > 0)


def backward(dh: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[rows, inner/t] → [rows, hidden], and the gradients of a and b."""
    x, a, active = saved
    dz = dh * active
    da = x.T @ dz
    db = dz.sum(axis=0)
    dx = dz @ a.T
    return dx, da, db
