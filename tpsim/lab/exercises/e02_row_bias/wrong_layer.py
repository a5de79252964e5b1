"""Calls the function that tpsim's own layer calls."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "forbidden"


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    from tpsim import nn

    layer = nn.RowParallelLinear(x.shape[1] * group.size, a.shape[1], group, dtype=x.dtype)
    layer.weight.data = a
    y: Array = np.squeeze(layer.forward(x[None]), 0)
    return y + b
