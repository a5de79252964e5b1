"""The magnitude of summed terms, for those tensors that may be small only because their terms cancel.

Rounding is relative to the terms of a sum, not to what is left of it: 1e8 − 1e8 + 1 has an error of 1e-8,
whatever its value. No two ways of computing such a sum agree to a fixed fraction of it, so the size of its
terms is the fair scale. A tensor of several sums hardly ever has all of them cancel, and its largest entry
is scale enough; that is why strategies draw inner widths of 4 and more. What remains:

- a linear may have a single feature, thus a single sum;
- gradients of q and k norms, where all of an entry's terms share a cancellation: softmax's p·(dp − Σ p dp),
  then differences of keys, Σ dS_ij k_j with Σ_j dS_ij = 0. With two positions there is nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import TypeAlias

import numpy as np

from tpsim import functional as F
from tpsim import reference
from tpsim.lab.cases import Array, AttentionCase, BlockCase, ColumnCase, LayerCase, MLPCase, NormCase, RowCase
from tpsim.lab.oracle import attention_options, one_device

Parameters: TypeAlias = Mapping[str, Array]
Terms: TypeAlias = dict[str, Array]


@singledispatch
def magnitudes(case: LayerCase, parameters: Parameters, x: Array, dy: Array) -> Terms:
    """Return Σ|terms| of the tensors that need it, by name."""
    return {}


@magnitudes.register(ColumnCase)
@magnitudes.register(RowCase)
def _linear(case: ColumnCase | RowCase, parameters: Parameters, x: Array, dy: Array) -> Terms:
    """|X||A| + |b|, |dY||A|ᵀ, |X|ᵀ|dY|, Σ|dY|: the reference on absolute values."""
    positive = {name: np.abs(value) for name, value in parameters.items()}
    return one_device(case, positive, np.abs(x), np.abs(dy)).tensors()


@magnitudes.register
def _attention(case: AttentionCase, parameters: Parameters, x: Array, dy: Array) -> Terms:
    """dγ = Σ dq·x̂ with dQ = dS K, dS = P·(dP − Σ P dP)/√d, dP = dO Vᵀ, each sum over absolute values."""
    if not case.qk_norm:
        return {}
    _, cache = reference.attention(parameters, x, **attention_options(case))
    d, shared = case.head_size, case.heads // case.kv_heads
    q, p = np.abs(cache["q"]), cache["probabilities"]
    k, v = (np.abs(cache[name]).repeat(shared, axis=1) for name in ("k", "v"))
    batch, seq, _ = x.shape
    dmerged = np.abs(F.linear_grad_input(parameters["out.weight"], dy))
    dout = dmerged.reshape(batch, seq, case.heads, d).swapaxes(1, 2)  # [b, a, s, d]
    dp = dout @ v.swapaxes(-1, -2)
    ds = p * (dp + np.sum(p * dp, axis=-1, keepdims=True)) / math.sqrt(d)
    dk = (ds.swapaxes(-1, -2) @ q).reshape(batch, case.kv_heads, shared, seq, d).sum(axis=2)
    return {
        f"{which}_norm.weight": _norm_weight(cache, which, _turned(grad, case.rotary_base))
        for which, grad in (("q", ds @ k), ("k", dk))
    }


@magnitudes.register
def _block(case: BlockCase, parameters: Parameters, x: Array, dy: Array) -> Terms:
    """The attention's, from what the reference hands on to it."""
    _, cache = reference.block(parameters, x, **attention_options(case), activation=case.activation)
    part = {name: _under(parameters, name) for name in ("attention", "norm2", "mlp")}
    dnormed = one_device(case.part(MLPCase), part["mlp"], cache["mlp"]["x"], dy).dx
    dz = dy + one_device(case.part(NormCase), part["norm2"], cache["norm2"]["x"], dnormed).dx
    terms = magnitudes(case.part(AttentionCase), part["attention"], cache["attention"]["x"], dz)
    return {f"attention.{name}": value for name, value in terms.items()}


def _under(parameters: Parameters, name: str) -> Parameters:
    return {key.removeprefix(f"{name}."): v for key, v in parameters.items() if key.startswith(f"{name}.")}


def _turned(x: Array, base: float | None) -> Array:
    if base is None:
        return x
    cos, sin = (np.abs(table) for table in F.rotary_tables(x.shape[2], x.shape[3], base, like=x))
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos + second * sin, second * cos + first * sin], axis=-1)


def _norm_weight(cache: Mapping[str, Array], which: str, dy: Array) -> Array:
    terms = dy * np.abs(cache[f"{which}_projected"]) * cache[f"{which}_rstd"]
    total: Array = terms.reshape(-1, terms.shape[-1]).sum(axis=0)
    return total
