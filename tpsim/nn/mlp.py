"""The MLP of a transformer block, cut as in Megatron-LM: columns, then rows, one all-reduce each way."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import gelu, gelu_grad, gelu_tanh, gelu_tanh_grad, swiglu, swiglu_grad
from tpsim.nn.checks import check_divides
from tpsim.nn.layer import Layer
from tpsim.nn.overlap import Overlap, column_parallel, row_parallel
from tpsim.nn.parameter import cut

Array = NDArray[Any]
Activation = Literal["gelu_tanh", "gelu", "swiglu"]


def _gated(gate_up: Array) -> Array:
    gate, up = np.split(gate_up, 2, axis=-1)  # [b, s, f/t] each
    return swiglu(gate, up)


def _gated_grad(gate_up: Array, dy: Array) -> Array:
    gate, up = np.split(gate_up, 2, axis=-1)
    return np.concatenate(swiglu_grad(gate, up, dy), axis=-1)  # [b, s, 2f/t]


ACTIVATIONS = {
    "gelu_tanh": (gelu_tanh, gelu_tanh_grad),
    "gelu": (gelu, gelu_grad),
    "swiglu": (_gated, _gated_grad),
}


class MLP(Layer):
    """Y = act(X A) B, A cut by columns and B by rows.

    Columns first, because the activation is not linear: act(X₀A₀ + X₁A₁) ≠ act(X₀A₀) + act(X₁A₁), so
    that cutting A by rows would need a sum before it. Cut by columns, each rank has whole entries of X A.

    Parameters
    ----------
    hidden, ffn : int
        Widths of x and of the intermediate; `ffn` is cut.
    group, sequence_parallel, keep_gathered, bias, rng, dtype
        As for `ColumnParallelLinear`.
    activation : {"gelu_tanh", "gelu", "swiglu"}
        "swiglu" fuses the gate and the up projection into one weight [gate | up] of 2·ffn columns,
        each of the two cut by itself.
    overlap : {"none", "dw", "decomposed"}
        What communication is hidden behind GEMMs; see `overlap`.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3, figure 3a; Shazeer (2020), "GLU variants improve
    transformer", equation 6.
    """

    def __init__(
        self,
        hidden: int,
        ffn: int,
        group: Group | None = None,
        *,
        activation: Activation = "gelu_tanh",
        bias: bool = True,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        overlap: Overlap = "none",
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"MLP: activation {activation!r} is not known; pick one of {', '.join(ACTIVATIONS)}"
            )
        check_divides("MLP", "ffn", ffn, group)
        self.activation, self.activation_grad = ACTIVATIONS[activation]
        pieces = [cut(ffn, group)] * (2 if activation == "swiglu" else 1)
        self.up = column_parallel(overlap)(
            hidden,
            ffn * len(pieces),
            group,
            bias=bias,
            sequence_parallel=sequence_parallel,
            keep_gathered=keep_gathered,
            pieces=pieces,
            rng=rng,
            dtype=dtype,
        )
        self.down = row_parallel(overlap)(
            ffn, hidden, group, bias=bias, sequence_parallel=sequence_parallel, rng=rng, dtype=dtype
        )

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s, h]."""
        u = self.up.forward(x)  # [b, s, f/t], for swiglu [b, s, 2f/t]
        self.save(u=u)
        return self.down.forward(self.activation(u))

    def backward(self, dy: Array) -> Array:
        """[b, s, h] → [b, s, h]."""
        da = self.down.backward(dy)  # [b, s, f/t]
        return self.up.backward(self.activation_grad(self.take("u"), da))
