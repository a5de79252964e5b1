"""The two ways to cut Y = X A + b: by columns, and by rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import bias_grad, linear, linear_grad_input, linear_grad_weight
from tpsim.nn.borders import GatherLast, ScatterLast, enter, leave
from tpsim.nn.checks import check_divides, check_input
from tpsim.nn.layer import Layer
from tpsim.nn.parameter import SMALL_NORMAL, Init, Parameter, Piece, cut, replicated, zeros

Array = NDArray[Any]


class ColumnParallelLinear(Layer):
    """Y = X A + b with A cut by columns: rank i computes its own columns of Y, without communication.

    ::

        X [b, s, in]  ·  [ A₀ │ A₁ ]  =  [ Y₀ │ Y₁ ]

    Backward, dX = Σᵢ dYᵢ Aᵢᵀ: the sum over ranks is the border f's all-reduce.

    Parameters
    ----------
    in_features, out_features : int
        Of the whole A.
    group : Group, optional
        The ranks that share A; one rank alone by default.
    bias : bool
        Whether there is a b, cut like A's columns.
    gather_output : bool
        Return the whole Y on every rank, rather than this rank's columns.
    sequence_parallel : bool
        X comes cut along the sequence, [b, s/t, in], and is gathered here.
    keep_gathered : bool
        Under sequence parallelism, keep the gathered X for backward. By default only the local part
        is kept, and gathered again: s/t of the memory for one more all-gather.
    pieces : sequence of Piece, optional
        How the columns are cut, for fused weights; evenly by default.
    init, rng, dtype
        The weights' distribution, its generator, and their dtype. All ranks pass generators in the same
        state, and all layers of a model the same generator: the default is a new one each time.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3, equation 3.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group | None = None,
        *,
        bias: bool = True,
        gather_output: bool = False,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        pieces: Sequence[Piece] | None = None,
        init: Init = SMALL_NORMAL,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        if pieces is None:
            check_divides("ColumnParallelLinear", "out_features", out_features, group)
            pieces = [cut(out_features, group)]
        elif gather_output and len(pieces) > 1:
            raise ValueError(
                "ColumnParallelLinear: gathered columns of a fused weight would come rank by rank, not "
                "piece by piece; leave gather_output out, or make a layer for each piece"
            )
        self.keep_gathered = keep_gathered
        self.enter = enter(group, sequence_parallel=sequence_parallel)
        self.gather = GatherLast(group) if gather_output else None
        self.weight = Parameter((in_features, out_features), 1, pieces, init, rng, dtype)
        self.bias = Parameter((out_features,), 0, pieces, zeros, rng, dtype) if bias else None

    def forward(self, x: Array) -> Array:
        """[b, s, in] → [b, s, out/t]."""
        check_input(self, x, self.weight)
        whole = self.enter.forward(x)
        self.save(x=whole if self.keep_gathered else x)
        y = linear(whole, self.weight.data, self.bias.data if self.bias else None)
        return self.gather.forward(y) if self.gather else y

    def backward(self, dy: Array) -> Array:
        """[b, s, out/t] → [b, s, in]."""
        if self.gather:
            dy = self.gather.backward(dy)
        x = self.take("x")
        if not self.keep_gathered:
            x = self.enter.again(x)
        dweight, dbias = linear_grad_weight(x, dy)
        self.weight.add_grad(dweight)
        if self.bias:
            self.bias.add_grad(dbias)
        return self.enter.backward(linear_grad_input(self.weight.data, dy))


class RowParallelLinear(Layer):
    """Y = X A + b with A cut by rows: rank i has its own columns of X, and computes one term of a sum.

    ::

                        ⎡ A₀ ⎤
        [ X₀ │ X₁ ]  ·  ⎢────⎥  =  X₀ A₀ + X₁ A₁,  then + b
                        ⎣ A₁ ⎦

    The sum over ranks is the border g's all-reduce. The bias is added after it, once: added before, it
    would count t times.

    Parameters
    ----------
    in_features, out_features, group, init, rng, dtype
        As for `ColumnParallelLinear`; `in_features` is cut.
    bias : bool
        Whether there is a b, whole on every rank.
    input_is_parallel : bool
        X comes cut along its last axis, as a column-parallel layer leaves it; else it is cut here.
    sequence_parallel : bool
        Y leaves cut along the sequence, [b, s/t, out].

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3, equation 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        group: Group | None = None,
        *,
        bias: bool = True,
        input_is_parallel: bool = True,
        sequence_parallel: bool = False,
        init: Init = SMALL_NORMAL,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        check_divides("RowParallelLinear", "in_features", in_features, group)
        self.scatter = None if input_is_parallel else ScatterLast(group)
        self.leave = leave(group, sequence_parallel=sequence_parallel)
        self.weight = Parameter((in_features, out_features), 0, [cut(in_features, group)], init, rng, dtype)
        # Under sequence parallelism each rank sees only its rows of dy: db is a share, to be summed.
        whole = replicated(out_features, group, partial=sequence_parallel)
        self.bias = Parameter((out_features,), 0, [whole], zeros, rng, dtype) if bias else None

    def forward(self, x: Array) -> Array:
        """[b, s, in/t] → [b, s, out]."""
        if self.scatter:
            x = self.scatter.forward(x)
        check_input(self, x, self.weight)
        self.save(x=x)
        y = self.leave.forward(linear(x, self.weight.data))
        if self.bias:
            y += self.bias.data  # in the dtype of storage, like the reduce
        return y

    def backward(self, dy: Array) -> Array:
        """[b, s, out] → [b, s, in/t]."""
        x = self.take("x")
        if self.bias:
            self.bias.add_grad(bias_grad(dy))
        dy = self.leave.backward(dy)
        dweight, _ = linear_grad_weight(x, dy)
        self.weight.add_grad(dweight)
        dx = linear_grad_input(self.weight.data, dy)
        return self.scatter.backward(dx) if self.scatter else dx
