"""Begins what does not wait; keeps the logits, and one number a token to turn them into probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(logits: Array, targets: Array, group: Group) -> tuple[Array, Any]:
    """[n, V/t] → [n]."""
    hit = targets[:, None] == group.rank * logits.shape[1] + np.arange(logits.shape[1])
    target = group.iall_reduce(np.where(hit, logits, 0).sum(axis=1))
    maximum = group.all_reduce(np.max(logits, axis=1), op="max")
    total = group.all_reduce(np.exp(logits - maximum[:, None]).sum(axis=1))
    loss = np.log(total) - (target.wait() - maximum)
    return loss, {"logits": logits, "maximum": maximum, "total": total, "targets": targets}


def backward(dloss: Array, saved: Any, group: Group) -> Array:
    """[n] → [n, V/t]."""
    logits, total, targets = saved["logits"], saved["total"], saved["targets"]
    hit = targets[:, None] == group.rank * logits.shape[1] + np.arange(logits.shape[1])
    p = np.exp(logits - saved["maximum"][:, None]) / total[:, None]
    dlogits: Array = np.where(hit, p - 1, p) * dloss[:, None]
    return dlogits
