"""The reduce-scatter of f's backward averages."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dx"
SAYS = "averaged"


def over_tokens(x: Array, dy: Array) -> Array:
    """Return xᵀ dy, summed over batch and sequence."""
    gradient: Array = np.einsum("bsi,bso->io", x, dy)
    return gradient


def forward(x: Array, a: Array, c: Array, group: Group) -> tuple[Array, Any]:
    """[b, s/t, h] → [b, s/t, h]."""
    y = group.all_gather(x, axis=1) @ a
    return group.reduce_scatter(y @ c, axis=1), (x, y)


def backward(dz: Array, a: Array, c: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[b, s/t, h] → [b, s/t, h], [h, ffn/t] and [ffn/t, h]."""
    x, y = saved
    dz = group.all_gather(dz, axis=1)
    dy = dz @ c.T
    da = over_tokens(group.all_gather(x, axis=1), dy)
    return group.reduce_scatter(dy @ a.T, axis=1) / group.size, da, over_tokens(y, dz)
