"""The bias of a row-parallel linear belongs after the reduce, once. Two ways to put it elsewhere."""

from __future__ import annotations

from tpsim import nn
from tpsim.functional import linear, linear_grad_input, linear_grad_weight
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import rows
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array


class BiasOnEveryRank(nn.RowParallelLinear):
    """Calls the fused linear(x, A, b), as one device does, and reduces the result."""

    def forward(self, x: Array) -> Array:
        """[b, s, in/t] → [b, s, out]."""
        if self.scatter:
            x = self.scatter.forward(x)
        self.save(x=x)
        return self.leave.forward(linear(x, self.weight.data, self.bias.data if self.bias else None))


class BiasByRanks(nn.RowParallelLinear):
    """Makes up for it by adding b/t on each rank: a right y, whose own derivative is db/t."""

    def forward(self, x: Array) -> Array:
        """[b, s, in/t] → [b, s, out]."""
        if self.scatter:
            x = self.scatter.forward(x)
        self.save(x=x)
        share = self.bias.data / self.weight.pieces[0].parts if self.bias else None
        return self.leave.forward(linear(x, self.weight.data, share))

    def backward(self, dy: Array) -> Array:
        """[b, s, out] → [b, s, in/t]."""
        dy = self.leave.backward(dy)
        dweight, dbias = linear_grad_weight(self.take("x"), dy)
        self.weight.add_grad(dweight)
        if self.bias:
            self.bias.add_grad(dbias / self.weight.pieces[0].parts)
        dx = linear_grad_input(self.weight.data, dy)
        return self.scatter.backward(dx) if self.scatter else dx


BUGS = [
    Bug(
        number=1,
        name="row-bias-on-every-rank",
        title="the row bias is added before the all-reduce",
        goes_wrong="y is off by (t − 1)·b. A model without biases, or one rank, shows nothing.",
        seen_in=(
            "TGI#1036",
            "slapo#10",
            "Paddle#35186",
        ),
        replaces="tpsim.nn.linear.RowParallelLinear",
        patient=BiasOnEveryRank,
        caught_by=equals_reference,
        cases=rows,
    ),
    Bug(
        number=2,
        name="row-bias-by-ranks",
        title="b/t is added on each rank before the all-reduce",
        goes_wrong="y is right, and db is t times too small: only training shows it, slowly. Under sequence "
        "parallelism the sum over replicas makes it right by chance.",
        seen_in=("torchtitan#4332",),
        replaces="tpsim.nn.linear.RowParallelLinear",
        patient=BiasByRanks,
        caught_by=equals_reference,
        cases=rows,
    ),
]
