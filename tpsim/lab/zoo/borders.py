"""Mistakes where a tensor-parallel region begins or ends."""

from __future__ import annotations

import numpy as np

from tpsim import nn
from tpsim.functional import linear_grad_input, linear_grad_weight
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import columns, rows
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array


class CopyWithoutReduce(nn.CopyToRegion):
    """Nothing was sent forward, so nothing is sent back."""

    def backward(self, dy: Array) -> Array:
        """Return this rank's share of dx as if it were dx."""
        return dy


class GatherOwnInputGradient(nn.RowParallelLinear):
    """Multiplies the local rows of dy and gathers the product: rank i then holds rows made with A_j."""

    def backward(self, dy: Array) -> Array:
        """[b, s/t, out] → [b, s, in/t]."""
        if not isinstance(self.leave, nn.ScatterSequence):
            return super().backward(dy)
        if self.bias:
            self.bias.add_grad(dy.reshape(-1, dy.shape[-1]).sum(axis=0))
        dx = self.leave.backward(linear_grad_input(self.weight.data, dy))
        dweight, _ = linear_grad_weight(self.take("x"), self.leave.backward(dy))
        self.weight.add_grad(dweight)
        return self.scatter.backward(dx) if self.scatter else dx


class ReduceIfFull(nn.ReduceFromRegion):
    """Ranks drop requests that have ended; whether one has, each asks its own scheduler."""

    def forward(self, x: Array) -> Array:
        """Sum the ranks' partial results; before it, ranks whose cache is full tell the others."""
        free_blocks = 100 - self.group.rank  # drifts apart under load
        if free_blocks < 100:
            self.group.all_gather(np.full_like(x, free_blocks, shape=(1,)))
        return super().forward(x)


class AverageOverSequence(nn.ScatterSequence):
    """A fused matmul-reduce-scatter whose reduction is "avg", the one that gradients mostly want."""

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s/t, h]."""
        return super().forward(x) / self.group.size


BUGS = [
    Bug(
        number=4,
        name="no-reduce-in-backward",
        title="f's all-reduce in backward is missing",
        goes_wrong="y and this layer's own gradients are right, dx is one rank's share: every layer below "
        "learns from a wrong gradient.",
        seen_in=("torchtitan#1805",),
        replaces="tpsim.nn.borders.CopyToRegion",
        patient=CopyWithoutReduce,
        caught_by=equals_reference,
        cases=columns,
    ),
    Bug(
        number=6,
        name="row-gathers-own-dx",
        title="a row-parallel backward under SP gathers its own dX rather than dY",
        goes_wrong="shapes are right and so is dA; the rows of dX that came from other ranks were multiplied "
        "by their weights.",
        seen_in=("nanotron#46", "nanotron#172"),
        replaces="tpsim.nn.linear.RowParallelLinear",
        patient=GatherOwnInputGradient,
        caught_by=equals_reference,
        cases=rows,
    ),
    Bug(
        number=28,
        name="branch-around-collective",
        title="a collective stands in a branch that not every rank takes",
        goes_wrong="ranks meet in different collectives and wait for ever. Here it is told at once, with "
        "each rank's call and line.",
        seen_in=("TensorRT-LLM#14020",),
        replaces="tpsim.nn.borders.ReduceFromRegion",
        patient=ReduceIfFull,
        caught_by=equals_reference,
        cases=rows,
    ),
    Bug(
        number=30,
        name="averaged-reduce-scatter",
        title="a fused matmul-reduce-scatter averages, and does not sum",
        goes_wrong="under sequence parallelism what each region adds to the residual is t times too small; a "
        "norm right behind hides it.",
        seen_in=("vllm#33088",),
        replaces="tpsim.nn.borders.ScatterSequence",
        patient=AverageOverSequence,
        caught_by=equals_reference,
        cases=rows,
    ),
]
