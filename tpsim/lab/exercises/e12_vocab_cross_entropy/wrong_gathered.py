"""Gathers the logits, and computes the loss as on one device."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "forward calls"
SAYS = "wrong collective"


def forward(logits: Array, targets: Array, group: Group) -> tuple[Array, Any]:
    """[n, V/t] → [n]."""
    whole = group.all_gather(logits, axis=1)
    shifted = whole - whole.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1)
    loss = np.log(total) - shifted[np.arange(len(targets)), targets]
    p /= total[:, None]
    p[np.arange(len(targets)), targets] -= 1
    return loss, np.split(p, group.size, axis=1)[group.rank].copy()


def backward(dloss: Array, saved: Any, group: Group) -> Array:
    """[n] → [n, V/t]."""
    dlogits: Array = saved * dloss[:, None]
    return dlogits
