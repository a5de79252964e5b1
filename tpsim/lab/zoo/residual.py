"""A residual connection that was fused into the matrix product before the all-reduce."""

from __future__ import annotations

from typing import Any

from tpsim import nn
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import blocks
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.cached import Cached
from tpsim.nn.layer import Array


class ReduceWithResidual(nn.ReduceFromRegion):
    """The epilogue of a fused kernel: adds the residual to what the product leaves, then reduces."""

    residual: Array

    def forward(self, x: Array) -> Array:
        """Sum the ranks' partial results, each with the residual in it."""
        return super().forward(x + self.residual)


class FusedResiduals(nn.TransformerBlock):
    """Saves two passes over memory. (Only without sequence parallelism: there, shapes would not fit.)"""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for linear in (self.attention.out, self.mlp.down):
            if isinstance(linear.leave, nn.ReduceFromRegion):
                linear.leave = ReduceWithResidual(linear.leave.group)

    def forward(self, x: Array, cached: Cached | None = None) -> Array:
        """[b, s, h] → [b, s, h]."""
        fused = self.attention.out.leave, self.mlp.down.leave
        if not all(isinstance(border, ReduceWithResidual) for border in fused):
            return super().forward(x, cached)
        fused[0].residual = x  # type: ignore[attr-defined]
        x = self.attention.forward(self.norm1.forward(x), cached)
        fused[1].residual = x  # type: ignore[attr-defined]
        return self.mlp.forward(self.norm2.forward(x))


BUGS = [
    Bug(
        number=3,
        name="residual-before-reduce",
        title="the residual is added before the all-reduce, on every rank",
        goes_wrong="x counts t times: activations grow by t at each of the two residuals of every block.",
        seen_in=("mirage#722",),
        replaces="tpsim.nn.block.TransformerBlock",
        patient=FusedResiduals,
        caught_by=equals_reference,
        cases=blocks,
    ),
]
