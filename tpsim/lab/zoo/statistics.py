"""A row's statistic, taken over what one rank has of it."""

from __future__ import annotations

from tpsim import nn
from tpsim.functional import rms_norm, rms_norm_grad
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import parallel_norms
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array


class LocalRMSNorm(nn.ParallelRMSNorm):
    """The usual norm, on the usual last axis: it saves two all-reduces."""

    def forward(self, x: Array) -> Array:
        """[b, s, n/t] → [b, s, n/t]."""
        y, rstd = rms_norm(x, self.weight.data, self.eps)
        self.save(x=x)
        self.save_statistics(rstd=rstd)
        return y

    def backward(self, dy: Array) -> Array:
        """[b, s, n/t] → [b, s, n/t]."""
        dx, dweight = rms_norm_grad(self.take("x"), self.weight.data, self.take("rstd"), dy)
        self.weight.add_grad(dweight)
        return dx


BUGS = [
    Bug(
        number=27,
        name="local-rms",
        title="the RMS of a sharded hidden is taken over the local slice",
        goes_wrong="each rank scales its slice by a number of its own, near the right one: quality drops.",
        seen_in=("exllamav3#141",),
        replaces="tpsim.nn.norm.ParallelRMSNorm",
        patient=LocalRMSNorm,
        caught_by=equals_reference,
        cases=parallel_norms,
    ),
]
