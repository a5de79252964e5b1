"""The sequence in front, so that ranks' parts are neighbours in memory; what can be begun early is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def tokens_first(x: Array) -> Array:
    """[b, s, h] ⇄ [s, b, h]."""
    return np.swapaxes(x, 0, 1)


def as_rows(x: Array) -> Array:
    """[s, b, h] → [s·b, h]."""
    return x.reshape(-1, x.shape[-1])


def forward(x: Array, a: Array, c: Array, group: Group) -> tuple[Array, Any]:
    """[b, s/t, h] → [b, s/t, h]."""
    mine = tokens_first(x)
    y = group.all_gather(mine) @ a
    return tokens_first(group.reduce_scatter(y @ c)), {"x": mine, "y": y}


def backward(dz: Array, a: Array, c: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[b, s/t, h] → [b, s/t, h], [h, ffn/t] and [ffn/t, h]."""
    x_later = group.iall_gather(saved["x"])
    dz = group.all_gather(tokens_first(dz))
    dy = dz @ c.T
    dx = group.ireduce_scatter(dy @ a.T)
    dc = as_rows(saved["y"]).T @ as_rows(dz)
    da = as_rows(x_later.wait()).T @ as_rows(dy)
    return tokens_first(dx.wait()), da, dc
