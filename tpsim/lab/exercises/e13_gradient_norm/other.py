"""Rank 0 owns the replica, and alone counts it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def global_norm(dw: Array, dgamma: Array, group: Group) -> Array:
    """[hidden, out/t] and [hidden] → [1]."""
    mine = [dw, dgamma] if group.rank == 0 else [dw]
    flat = np.concatenate([gradient.reshape(-1) for gradient in mine])
    norm: Array = np.sqrt(group.all_reduce(np.array([flat @ flat])))
    return norm


def clip(dw: Array, dgamma: Array, norm: Array, limit: float) -> tuple[Array, Array]:
    """Two gradients → the same, smaller."""
    if norm[0] + 1e-6 <= limit:
        return dw, dgamma
    return dw * limit / (norm + 1e-6), dgamma * limit / (norm + 1e-6)
