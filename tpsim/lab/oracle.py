"""What must come out of a case: `tpsim.reference`, in float64 whatever the case's dtype.

So only the layer's own rounding counts against a tolerance, not the oracle's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from tpsim import reference
from tpsim.lab.cases import (
    EPS,
    Array,
    AttentionCase,
    BlockCase,
    ColumnCase,
    LayerCase,
    MLPCase,
    NormCase,
    ParallelNormCase,
    RowCase,
)


class Whole(NamedTuple):
    """What one device has after forward and backward."""

    y: Array
    dx: Array
    gradients: dict[str, Array]

    def tensors(self) -> dict[str, Array]:
        """Return y, dx and the gradients by name."""
        return {"y": self.y, "dx": self.dx, **self.gradients}


def expected(case: LayerCase, stream: int = 0) -> Whole:
    """Return the reference's results for a case."""
    parameters, x, dy = case.draw(stream)
    wide = {name: value.astype(np.float64) for name, value in parameters.items()}
    return one_device(case, wide, x.astype(np.float64), dy.astype(np.float64))


@singledispatch
def one_device(case: LayerCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    """Run the reference of a case's layer."""
    raise NotImplementedError(f"oracle: no reference for {type(case).__name__}; register one")


@one_device.register(ColumnCase)
@one_device.register(RowCase)
def _linear(case: ColumnCase | RowCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    y, cache = reference.linear(parameters, x)
    return Whole(y, *reference.linear_grad(parameters, cache, dy))


@one_device.register(NormCase)
@one_device.register(ParallelNormCase)
def _norm(case: NormCase | ParallelNormCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    y, cache = reference.norm(parameters, x, eps=EPS)
    return Whole(y, *reference.norm_grad(parameters, cache, dy, eps=EPS))


@one_device.register
def _mlp(case: MLPCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    y, cache = reference.mlp(parameters, x, activation=case.activation)
    return Whole(y, *reference.mlp_grad(parameters, cache, dy, activation=case.activation))


@one_device.register
def _attention(case: AttentionCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    options = attention_options(case)
    y, cache = reference.attention(parameters, x, **options)
    return Whole(y, *reference.attention_grad(parameters, cache, dy, **options))


@one_device.register
def _block(case: BlockCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    options = attention_options(case) | {"activation": case.activation}
    y, cache = reference.block(parameters, x, **options)
    return Whole(y, *reference.block_grad(parameters, cache, dy, **options))


def attention_options(case: AttentionCase) -> dict[str, Any]:
    """Return what the reference wants to know about heads."""
    return {
        "heads": case.heads,
        "kv_heads": case.kv_heads,
        "causal": case.causal,
        "rotary_base": case.rotary_base,
        "eps": EPS,
    }
