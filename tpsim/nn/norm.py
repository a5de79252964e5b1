"""Normalisation: replicated on every rank, or with one statistic for a row that is cut among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import bias_grad, layer_norm, layer_norm_grad, rms_norm, rms_norm_grad, widen
from tpsim.nn.checks import check_divides, check_rows
from tpsim.nn.layer import Layer
from tpsim.nn.parameter import Parameter, cut, ones, replicated, zeros

Array = NDArray[Any]


class LayerNorm(Layer):
    """y = (x − mean)/√(var + eps) · weight + bias, over the last axis.

    Parameters
    ----------
    size : int
        Length of the last axis.
    group : Group, optional
        The ranks that hold copies of the weights.
    partial : bool
        Whether each rank normalises something else (its part of the sequence, its heads), so that
        the weights' gradients are shares, to be summed over the group.
    eps : float
        Added to the variance.
    dtype : dtype
        Of the weights; x must have it too.

    References
    ----------
    Ba et al. (2016), "Layer normalization", equation 4.
    """

    def __init__(
        self,
        size: int,
        group: Group | None = None,
        *,
        partial: bool = False,
        eps: float = 1e-5,
        dtype: DTypeLike = np.float32,
    ) -> None:
        pieces = [replicated(size, group or solo(), partial=partial)]
        rng = np.random.default_rng(0)  # nothing is drawn
        self.eps = eps
        self.weight = Parameter((size,), 0, pieces, ones, rng, dtype)
        self.bias = Parameter((size,), 0, pieces, zeros, rng, dtype)

    def forward(self, x: Array) -> Array:
        """[…, size] → […, size]."""
        check_rows(self, x, self.weight)
        y, mean, rstd = layer_norm(x, self.weight.data, self.bias.data, self.eps)
        self.save(x=x)
        self.save_statistics(mean=mean, rstd=rstd)
        return y

    def backward(self, dy: Array) -> Array:
        """[…, size] → […, size]."""
        x, mean, rstd = self.take("x"), self.take("mean"), self.take("rstd")
        dx, dweight, dbias = layer_norm_grad(x, self.weight.data, mean, rstd, dy)
        self.weight.add_grad(dweight)
        self.bias.add_grad(dbias)
        return dx


class RMSNorm(Layer):
    """y = x/√(mean x² + eps) · weight, over the last axis.

    Parameters
    ----------
    size, group, partial, eps, dtype
        As for `LayerNorm`.

    References
    ----------
    Zhang and Sennrich (2019), "Root mean square layer normalization", equation 4.
    """

    def __init__(
        self,
        size: int,
        group: Group | None = None,
        *,
        partial: bool = False,
        eps: float = 1e-5,
        dtype: DTypeLike = np.float32,
    ) -> None:
        pieces = [replicated(size, group or solo(), partial=partial)]
        self.eps = eps
        self.weight = Parameter((size,), 0, pieces, ones, np.random.default_rng(0), dtype)

    def forward(self, x: Array) -> Array:
        """[…, size] → […, size]."""
        check_rows(self, x, self.weight)
        y, rstd = rms_norm(x, self.weight.data, self.eps)
        self.save(x=x)
        self.save_statistics(rstd=rstd)
        return y

    def backward(self, dy: Array) -> Array:
        """[…, size] → […, size]."""
        dx, dweight = rms_norm_grad(self.take("x"), self.weight.data, self.take("rstd"), dy)
        self.weight.add_grad(dweight)
        return dx


class ParallelRMSNorm(Layer):
    """RMSNorm over a last axis that is cut among the ranks: the mean square is the whole row's.

    The row's statistic needs one all-reduce of [b, s, 1] each way; taken over the local slice alone it
    would be another number on every rank.

    Parameters
    ----------
    size : int
        Length of the whole axis; `weight` is cut like it.
    group, eps, dtype
        As for `LayerNorm`.
    """

    def __init__(
        self, size: int, group: Group | None = None, *, eps: float = 1e-5, dtype: DTypeLike = np.float32
    ) -> None:
        self.group = group or solo()
        check_divides("ParallelRMSNorm", "size", size, self.group)
        self.size = size
        self.eps = eps
        self.weight = Parameter((size,), 0, [cut(size, self.group)], ones, np.random.default_rng(0), dtype)

    def forward(self, x: Array) -> Array:
        """[b, s, n/t] → [b, s, n/t]."""
        check_rows(self, x, self.weight)
        wide = widen(x)
        squares = self.group.all_reduce(np.sum(wide * wide, axis=-1, keepdims=True))  # [b, s, 1]
        rstd = 1 / np.sqrt(squares / self.size + self.eps)
        self.save(x=x)
        self.save_statistics(rstd=rstd)
        return (wide * rstd * widen(self.weight.data)).astype(x.dtype, copy=False)

    def backward(self, dy: Array) -> Array:
        """[b, s, n/t] → [b, s, n/t]."""
        rstd, dtype, dy = self.take("rstd"), dy.dtype, widen(dy)
        normed = widen(self.take("x")) * rstd
        self.weight.add_grad(bias_grad(dy * normed))
        dnormed = dy * widen(self.weight.data)
        along = self.group.all_reduce(np.sum(dnormed * normed, axis=-1, keepdims=True))  # [b, s, 1]
        return (rstd * (dnormed - normed * (along / self.size))).astype(dtype, copy=False)
