"""Scales the gradients where they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "clipped_w"
SAYS = "input changed"


def global_norm(dw: Array, dgamma: Array, group: Group) -> Array:
    """[hidden, out/t] and [hidden] → [1]."""
    squares = np.sum(np.square(dw), keepdims=True).reshape(1)
    norm: Array = np.sqrt(group.all_reduce(squares) + np.sum(np.square(dgamma)))
    return norm


def clip(dw: Array, dgamma: Array, norm: Array, limit: float) -> tuple[Array, Array]:
    """Two gradients → the same, smaller."""
    dw *= np.minimum(1, limit / (norm + 1e-6))
    dgamma *= np.minimum(1, limit / (norm + 1e-6))
    return dw, dgamma
