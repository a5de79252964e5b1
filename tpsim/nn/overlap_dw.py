"""Megatron-LM's overlap: what f sends in backward is on its way while the weight's gradient is computed.

The two GEMMs of a linear's backward don't need each other. dX goes first, for only dX has to be sent::

    tensor parallel     compute       │ dX = dY Aᵀ │   dA = Xᵀ dY   │
                        communicate                │ all-reduce dX  │

    sequence parallel   compute       │ dX = dY Aᵀ │   dA = Xᵀ dY   │
                        communicate   │  gather X  │ scatter-sum dX │

A row-parallel linear has nothing to hide so: forward its sum needs the whole product, and backward, under
sequence parallelism, both GEMMs need the gathered dY. (`overlap_decomposed` hides those, too.)

The collectives are those of the plain layer; in a trace they begin before a GEMM and end behind it. A GEMM
that hides something is cut by rows, see `polling`, and then rounds otherwise: dA equals the plain layer's to
1e-12 in float64, and so does dX where X is gathered behind it. The rest is the same bits, and with
`cut_into(1)` everything is.

References
----------
Narayanan et al. (2021), "Efficient large-scale language model training on GPU clusters using Megatron-LM":
its code's LinearWithGradAccumulationAndAsyncCommunication;
Korthikanti et al. (2022), "Reducing activation recomputation", section 4.2.2, for the gather behind dX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import iadd
from typing import Any

from numpy.typing import NDArray

from tpsim.functional import bias_grad, linear_grad_input, linear_grad_weight
from tpsim.nn.borders import Enter
from tpsim.nn.embedding import LMHead
from tpsim.nn.linear import ColumnParallelLinear
from tpsim.nn.polling import joined, polling

Array = NDArray[Any]


def overlapped_grads(
    enter: Enter,
    x: Array,
    weight: Array,
    dy: Array,
    weight_grad: Callable[[Array, Array], Array],
    *,
    gathered: bool,
) -> tuple[Array, Array]:
    """Return dX, summed over ranks as `enter.backward` does, and dA.

    Parameters
    ----------
    enter : Enter
        The border into the region.
    x : Array
        `[b, s, in]` if `gathered`, else what `enter.again` takes.
    weight : Array
        A, `[in, out/t]`.
    dy : Array
        `[b, s, out/t]`.
    weight_grad : callable
        Returns dA from rows of X and the same rows of dY.
    """
    rows = dy.reshape(-1, dy.shape[-1])
    gathering = None if gathered else enter.iagain(x)
    behind = polling(rows.shape[0], gathering)
    dx = joined([linear_grad_input(weight, rows[piece]) for piece in behind], axis=0)
    if gathering is not None:
        x = gathering.wait()

    summing = enter.ibackward(dx.reshape(*dy.shape[:-1], dx.shape[-1]))
    x_rows = x.reshape(-1, x.shape[-1])
    behind = polling(rows.shape[0], summing)
    dweight = reduce(iadd, (weight_grad(x_rows[piece], rows[piece]) for piece in behind))
    return summing.wait(), dweight


class OverlappedColumnParallelLinear(ColumnParallelLinear):
    """A `ColumnParallelLinear` whose backward hides its communication behind its GEMMs."""

    def backward(self, dy: Array) -> Array:
        """[b, s, out/t] → [b, s, in]."""
        if self.gather:
            dy = self.gather.backward(dy)
        dx, dweight = overlapped_grads(
            self.enter,
            self.take("x"),
            self.weight.data,
            dy,
            lambda x, dy: linear_grad_weight(x, dy)[0],
            gathered=self.keep_gathered,
        )
        self.weight.add_grad(dweight)
        if self.bias:
            self.bias.add_grad(bias_grad(dy))
        return dx


class OverlappedLMHead(LMHead):
    """An `LMHead` whose backward hides its communication behind its GEMMs."""

    def backward(self, dy: Array) -> Array:
        """[b, s, V/t] → [b, s, h]."""
        dx, dweight = overlapped_grads(
            self.enter,
            self.take("x"),
            self.weight.data.T,
            dy,
            lambda x, dy: linear_grad_weight(dy, x)[0],  # dYᵀ X, for E = Aᵀ
            gathered=self.keep_gathered,
        )
        dweight[self.rows.real :] = 0
        self.weight.add_grad(dweight)
        return dx
