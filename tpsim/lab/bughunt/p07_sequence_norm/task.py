"""Patient 7 · A norm under sequence parallelism

Between the regions that are cut by heads or columns, each rank has rows/t positions, whole in hidden. The
norm needs one position at a time, and so does not communicate. But its weight is one weight, of which every
rank has a copy::

        y = γ · x / rms(x)        rms(x) = √(mean(x²) + 10⁻⁵) of each position

Complaint: at first the copies of γ drifted apart, so a collective was put in. They are equal now, and the
loss falls; but γ moves more slowly the more ranks there are.

Contract
--------
forward   x [rows/t, hidden], gamma [hidden] → y [rows/t, hidden], and what backward needs. No communication.
backward  dy [rows/t, hidden] → dx [rows/t, hidden], and dgamma [hidden], the gradient of γ by all positions,
          the same on every rank. One all-reduce of [hidden].

Run it with: tpsim lab bugs run 7
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

EPS = 1e-5


def forward(x: Array, gamma: Array) -> tuple[Array, Any]:
    """[rows/t, hidden] → [rows/t, hidden]."""
    rms = np.sqrt(np.mean(x * x, axis=1, keepdims=True) + x.dtype.type(EPS))
    normed = x / rms
    return gamma * normed, (normed, rms, gamma)


def backward(dy: Array, saved: Any, group: Group) -> tuple[Array, Array]:
    """[rows/t, hidden] → [rows/t, hidden], and the gradient of gamma."""
    normed, rms, gamma = saved
    dnormed = dy * gamma
    along = np.mean(dnormed * normed, axis=1, keepdims=True)
    dx = (dnormed - normed * along) / rms
    dgamma = synchronised(np.sum(dy * normed, axis=0), group)
    return dx, dgamma


def synchronised(grad: Array, group: Group) -> Array:
    """Return the gradient of a weight of which every rank has a copy."""
    return group.all_reduce(grad) / group.size
