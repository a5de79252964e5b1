"""Clipping by the norm of the whole model's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpsim import nn, train
from tpsim.comm import run
from tpsim.lab.cases import Array, LayerCase
from tpsim.lab.running import part
from tpsim.lab.tolerance import TOLERANCE
from tpsim.lab.violation import Violation

Shards = dict[str, tuple[nn.Parameter, Array]]


def clips_as_one_device(case: LayerCase) -> None:
    """Every rank finds the norm of the whole gradients, each entry counted once, and scales all alike."""
    x_cut, y_cut = case.cuts()
    parameters, x, dy = case.draw()

    def main(comm: Any) -> tuple[float, Shards, Shards]:
        group = case.group(comm)
        layer = case.build(group)
        layer.load(parameters)
        layer.forward(part(x, x_cut, comm))
        layer.backward(part(dy, y_cut, comm))
        nn.sum_replica_gradients(layer)
        before = _gradients(layer)
        norm = train.global_norm(layer, group)
        train.clip(layer, group, norm / 2)
        return norm, before, _gradients(layer)

    norms, before, after = zip(*run(main, case.ranks), strict=True)
    want, clipped = _norm(before), _norm(after)
    for rank, norm in enumerate(norms):
        if not abs(norm - want) <= 1e-12 * want:
            raise Violation(f"t = {case.ranks}: rank {rank} finds a norm of {norm}, not {want}; {case}")
    # `clip` divides by the norm and 1e-6.
    if not abs(clipped - want / 2) <= TOLERANCE[case.dtype] * want + 1e-6:
        raise Violation(f"t = {case.ranks}: clipped to {want / 2}, the norm is {clipped}; {case}")


def _gradients(layer: nn.Layer) -> Shards:
    return {
        name: (p, p.data * 0 if p.grad is None else p.grad.copy()) for name, p in layer.parameters().items()
    }


def _norm(ranks: Sequence[Shards]) -> float:
    """Return the norm of what the ranks have, put together."""
    wholes = [nn.assemble([shards[name] for shards in ranks]) for name in ranks[0]]
    return float(np.sqrt(sum(np.sum(np.square(whole, dtype=np.float64)) for whole in wholes)))
