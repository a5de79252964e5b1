"""Einsum, a dict that is kept, and the all-reduce behind the weight's gradient."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, b: Array, group: Group) -> tuple[Array, Any]:
    """[batch, seq, hidden] → [batch, seq, out/t]."""
    y = np.einsum("bsh,ho->bso", x, a)
    y += b
    return y, {"x": x}


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array, Array]:
    """[batch, seq, out/t] → [batch, seq, hidden], [hidden, out/t], [out/t]."""
    dx = group.iall_reduce(np.einsum("bso,ho->bsh", dy, a))
    da = np.einsum("bsh,bso->ho", saved["x"], dy)
    db = np.ones(dy.shape[0] * dy.shape[1], dy.dtype) @ dy.reshape(-1, dy.shape[2])
    return dx.wait(), da, db
