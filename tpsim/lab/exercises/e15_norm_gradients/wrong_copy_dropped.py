"""Sums into a copy, and returns what it copied from (Megatron#5337)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "all_dgamma"
SAYS = "missing sum"


def shares(normed: Array, dy: Array, dz: Array) -> tuple[Array, Array, Array]:
    """[b, s/t, hidden] twice and [b, s/t, out] → [hidden] twice and [out]."""
    return (dy * normed).sum(axis=(0, 1)), dy.sum(axis=(0, 1)), dz.sum(axis=(0, 1))


def finish(dgamma: Array, dbeta: Array, dbias: Array, group: Group) -> tuple[Array, Array, Array]:
    """Three gradients → the same, over all tokens."""
    flat = np.concatenate([dgamma, dbeta, dbias])
    group.all_reduce(flat, out=flat)
    return dgamma, dbeta, dbias
