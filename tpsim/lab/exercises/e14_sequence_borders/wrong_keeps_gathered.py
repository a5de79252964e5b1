"""Keeps the gathered X: the memory that sequence parallelism was to save."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "saved keeps"
SAYS = "too much kept"


def over_tokens(x: Array, dy: Array) -> Array:
    """Return xᵀ dy, summed over batch and sequence."""
    gradient: Array = np.einsum("bsi,bso->io", x, dy)
    return gradient


def forward(x: Array, a: Array, c: Array, group: Group) -> tuple[Array, Any]:
    """[b, s/t, h] → [b, s/t, h]."""
    whole = group.all_gather(x, axis=1)
    y = whole @ a
    return group.reduce_scatter(y @ c, axis=1), (whole, y)


def backward(dz: Array, a: Array, c: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[b, s/t, h] → [b, s/t, h], [h, ffn/t] and [ffn/t, h]."""
    x, y = saved
    dz = group.all_gather(dz, axis=1)
    dy = dz @ c.T
    return group.reduce_scatter(dy @ a.T, axis=1), over_tokens(x, dy), over_tokens(y, dz)
