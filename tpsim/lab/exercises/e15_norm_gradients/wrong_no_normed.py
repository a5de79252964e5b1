"""dγ without x̂."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dgamma"
SAYS = "x̂ missing"


def shares(normed: Array, dy: Array, dz: Array) -> tuple[Array, Array, Array]:
    """[b, s/t, hidden] twice and [b, s/t, out] → [hidden] twice and [out]."""
    return dy.sum(axis=(0, 1)), dy.sum(axis=(0, 1)), dz.sum(axis=(0, 1))


def finish(dgamma: Array, dbeta: Array, dbias: Array, group: Group) -> tuple[Array, Array, Array]:
    """Three gradients → the same, over all tokens."""
    h = len(dgamma)
    flat = group.all_reduce(np.concatenate([dgamma, dbeta, dbias]))
    return flat[:h], flat[h : 2 * h], flat[2 * h :]
