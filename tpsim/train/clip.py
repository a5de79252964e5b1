"""Clipping by the norm of the whole model's gradient, of which each rank holds its slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.nn import Layer

_BLOCK = 1 << 15  # elements


def global_norm(model: Layer, group: Group, shards: Group | None = None) -> float:
    """Return √(Σ g²) over every entry of the whole gradients: the same number on every rank.

    One all-reduce of one number, or two. A slice that several ranks hold is counted by the first of them: the
    all-reduce would otherwise count it once for each. What a rank holds alone it counts itself, and
    padding nobody, as it is no part of the whole.

    Parameters
    ----------
    model : Layer
        After `sum_replica_gradients`.
    group : Group
        The tensor-parallel group.
    shards : Group, optional
        The group over which the model is fully sharded.

    References
    ----------
    Megatron-LM, `megatron/core/optimizer/clip_grads.py`, `get_grad_norm_fp32`, for the owners.
    """
    squares = 0.0
    for parameter in model.parameters().values():
        if parameter.grad is None:
            continue
        for piece, part in zip(parameter.pieces, parameter.parts_of(parameter.grad), strict=True):
            if piece.replicas is None or piece.replicas.rank == 0:
                squares += _sum_of_squares(part)
    total = group.all_reduce(np.array([squares]))
    return math.sqrt((total if shards is None else shards.all_reduce(total))[0])


def clip(model: Layer, group: Group, max_norm: float, shards: Group | None = None) -> float:
    """Scale all gradients so that their global norm is at most `max_norm`; return what it was.

    References
    ----------
    Pascanu et al. (2013), "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    norm = global_norm(model, group, shards)
    factor = min(1.0, max_norm / (norm + 1e-6))
    if factor < 1:
        for parameter in model.parameters().values():
            if parameter.grad is not None:
                parameter.grad *= factor
    return norm


def _sum_of_squares(x: NDArray[Any]) -> float:
    """Sum in float64, in parts that stay in the processor's cache."""
    flat, total = x.reshape(-1), 0.0
    for start in range(0, flat.size, _BLOCK):
        wide = flat[start : start + _BLOCK].astype(np.float64)
        total += float(wide @ wide)
    return total
