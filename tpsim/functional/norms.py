"""Layer norm and root-mean-square norm over the last axis."""

import numpy as np

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32
from tpsim.functional.sums import dot_last, sum_last, sum_leading


@kernel
@in_float32(narrow=1)
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Layer norm over the last axis, `y = (x − μ)/√(σ² + ε)·γ + β`.

    Parameters
    ----------
    x : Array
        `[..., n]`.
    weight, bias : Array
        γ and β, `[n]`.
    eps : float
        ε.

    Returns
    -------
    y : Array
        `[..., n]`.
    mean, rstd : Array
        μ and 1/√(σ² + ε), `[..., 1]`, what the backward needs beside x.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer Normalization", equations 3 and 4.
    """
    mean = sum_last(x)
    mean /= x.shape[-1]
    y = x - mean
    rstd = _rstd(y, eps)
    y *= rstd
    y *= weight
    y += bias
    return y, mean, rstd


@kernel
@in_float32(narrow=1)
def layer_norm_grad(
    x: Array, weight: Array, mean: Array, rstd: Array, dy: Array
) -> tuple[Array, Array, Array]:
    """Backward of `layer_norm`: `(dx, dweight, dbias)`.

    With x̂ = (x − μ)·rstd and g = dy·γ, `dx = rstd·(g − mean(g) − x̂·mean(g·x̂))`: the two means are the ways in
    which an entry acts on its whole row, through μ and through σ.
    """
    normalized = x - mean
    normalized *= rstd
    dx = dy * weight  # g
    through_mean = sum_last(dx)
    through_mean /= x.shape[-1]
    through_variance = dot_last(dx, normalized)
    through_variance /= x.shape[-1]
    dweight = sum_leading(dy * normalized)
    normalized *= through_variance
    dx -= through_mean
    dx -= normalized
    dx *= rstd
    return dx, dweight, sum_leading(dy)


@kernel
@in_float32(narrow=1)
def rms_norm(x: Array, weight: Array, eps: float) -> tuple[Array, Array]:
    """Root-mean-square norm over the last axis, `y = x/√(mean(x²) + ε)·γ`.

    Parameters
    ----------
    x : Array
        `[..., n]`.
    weight : Array
        γ, `[n]`.
    eps : float
        ε.

    Returns
    -------
    y : Array
        `[..., n]`.
    rstd : Array
        1/√(mean(x²) + ε), `[..., 1]`, what the backward needs beside x.

    References
    ----------
    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """
    rstd = _rstd(x, eps)
    y = x * rstd
    y *= weight
    return y, rstd


@kernel
@in_float32(narrow=1)
def rms_norm_grad(x: Array, weight: Array, rstd: Array, dy: Array) -> tuple[Array, Array]:
    """Backward of `rms_norm`: `(dx, dweight)`.

    With x̂ = x·rstd and g = dy·γ, `dx = rstd·(g − x̂·mean(g·x̂))`: `layer_norm_grad` without the way through μ.
    """
    normalized = x * rstd
    dx = dy * weight  # g
    through_square = dot_last(dx, normalized)
    through_square /= x.shape[-1]
    dweight = sum_leading(dy * normalized)
    normalized *= through_square
    dx -= normalized
    dx *= rstd
    return dx, dweight


def _rstd(x: Array, eps: float) -> Array:
    """1/√(mean(x²) + ε) over the last axis, kept as an axis of size 1."""
    rstd = dot_last(x, x)
    rstd /= x.shape[-1]
    rstd += eps
    np.sqrt(rstd, out=rstd)
    return np.divide(1, rstd, out=rstd)
