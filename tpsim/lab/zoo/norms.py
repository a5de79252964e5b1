"""The norm of all gradients, as one rank would take it."""

from __future__ import annotations

import math

import numpy as np

from tpsim import nn
from tpsim.comm import Group
from tpsim.lab.clipping import clips_as_one_device
from tpsim.lab.strategies import layers
from tpsim.lab.zoo.bug import Bug


def norm_with_copies(model: nn.Layer, group: Group, shards: Group | None = None) -> float:
    """Add the squares of all that each rank has: weights are cut, so nothing is there twice. (Norms are.)"""
    gradients = [p.grad for p in model.parameters().values() if p.grad is not None]
    squares = sum(float(np.square(grad, dtype=np.float64).sum()) for grad in gradients)
    total = group.all_reduce(np.array([squares]))
    return math.sqrt((total if shards is None else shards.all_reduce(total))[0])


BUGS = [
    Bug(
        number=11,
        name="norm-counts-copies",
        title="the global gradient norm counts replicated parameters t times",
        goes_wrong="the norm grows with t, so that more is clipped: other losses at every t, by little.",
        seen_in=("TransformerEngine#715", "NeMo-RL#3788"),
        replaces="tpsim.train.clip.global_norm",
        patient=norm_with_copies,
        caught_by=clips_as_one_device,
        cases=layers,
    ),
]
