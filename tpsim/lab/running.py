"""Run a case on its ranks, and put together what the ranks have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpsim import nn
from tpsim.comm import run
from tpsim.lab.cases import AXIS, Array, Cut, LayerCase
from tpsim.trace import Trace


@dataclass
class RankRun:
    """What one rank has after one forward, one backward and the sum of replicas' gradients."""

    y: Array
    dx: Array
    parameters: dict[str, nn.Parameter]
    trace: Trace
    saved_after_forward: int
    saved_after_backward: int


@dataclass
class Run:
    """What all ranks have."""

    case: LayerCase
    ranks: list[RankRun]

    def outputs(self) -> dict[str, list[Array]]:
        """Return y and dx: one whole array for each rank that holds it whole, or the parts joined."""
        x_cut, y_cut = self.case.cuts()
        return {
            "y": joined([one.y for one in self.ranks], y_cut),
            "dx": joined([one.dx for one in self.ranks], x_cut),
        }

    def gradients(self) -> dict[str, Array]:
        """Return every whole gradient, put together from the ranks' parts."""
        return {name: self.gradient(name) for name in self.ranks[0].parameters}

    def gradient(self, name: str) -> Array:
        """Return one of them; without a gradient, NaN."""
        parameters = [one.parameters[name] for one in self.ranks]
        return nn.assemble([(p, p.data * np.nan if p.grad is None else p.grad) for p in parameters])


def run_case(case: LayerCase) -> Run:
    """Load drawn parameters, run forward, backward and `sum_replica_gradients` on every rank."""
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()

    def main(comm: Any) -> RankRun:
        layer = case.build(case.group(comm))
        layer.load(parameters)
        with Trace() as trace:
            y = layer.forward(part(x, x_cut, comm))
            after_forward = trace.saved_bytes
            dx = layer.backward(part(dy, y_cut, comm))
            after_backward = trace.saved_bytes
            nn.sum_replica_gradients(layer)
        return RankRun(y, dx, layer.parameters(), trace, after_forward, after_backward)

    return Run(case, run(main, case.ranks))


def part(whole: Array, cut: Cut, comm: Any) -> Array:
    """Return a rank's own copy of its part; read-only, for layers leave their inputs alone."""
    mine = (whole if cut == "whole" else np.split(whole, comm.size, AXIS[cut])[comm.rank]).copy()
    mine.flags.writeable = False
    return mine


def joined(parts: list[Array], cut: Cut) -> list[Array]:
    """Undo `part`."""
    return parts if cut == "whole" else [np.concatenate(parts, AXIS[cut])]
