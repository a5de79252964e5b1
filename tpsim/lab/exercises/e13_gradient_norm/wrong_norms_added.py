"""Sums the ranks' norms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "norm"
SAYS = "norms added"


def global_norm(dw: Array, dgamma: Array, group: Group) -> Array:
    """[hidden, out/t] and [hidden] → [1]."""
    return group.all_reduce(np.sqrt(np.array([np.sum(np.square(dw)) + np.sum(np.square(dgamma))])))


def clip(dw: Array, dgamma: Array, norm: Array, limit: float) -> tuple[Array, Array]:
    """Two gradients → the same, smaller."""
    factor = np.minimum(1, limit / (norm + 1e-6))
    return dw * factor, dgamma * factor
