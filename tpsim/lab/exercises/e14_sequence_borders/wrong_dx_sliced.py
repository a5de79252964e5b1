"""f only gathers, and its backward only cuts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dx"
SAYS = "missing sum"


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
    return np.split(dy @ a.T, group.size, axis=1)[group.rank], da, over_tokens(y, dz)
