"""Softmax and cross-entropy over the last axis."""

import numpy as np

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32
from tpsim.functional.sums import dot_last, sum_last


@kernel
@in_float32()
def softmax(x: Array, *, out: Array | None = None) -> Array:
    """Softmax over the last axis, `p_i = exp(x_i − m) / Σ_j exp(x_j − m)`.

    The maximum m keeps `exp` from overflowing and cancels in the ratio. An entry of −inf gets exactly 0; a
    row must hold a finite entry. `out` may be x itself.
    """
    p: Array = np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    np.exp(p, out=p)
    p /= sum_last(p)
    return p


@kernel
@in_float32()
def softmax_grad(p: Array, dp: Array, *, out: Array | None = None) -> Array:
    """Backward of `softmax` from its result p: `dx_i = p_i (dp_i − Σ_j p_j dp_j)`. `out` may be dp itself."""
    dx: Array = np.subtract(dp, dot_last(p, dp), out=out)
    dx *= p
    return dx


@kernel
@in_float32(narrow=0)
def cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Cross-entropy of each token, `−log softmax(logits)[target] = log Σ_j exp(x_j − m) − (x_target − m)`.

    Parameters
    ----------
    logits : Array
        `[..., vocabulary]`.
    targets : Array
        Integers `[...]`, from 0 to vocabulary − 1.

    Returns
    -------
    loss : Array
        `[...]`, one a token, not averaged.
    probabilities : Array
        `[..., vocabulary]`, what the backward needs.
    """
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    at_target = np.take_along_axis(shifted, targets.reshape(*targets.shape, 1), axis=-1)
    p = np.exp(shifted, out=shifted)
    total = sum_last(p)
    p /= total
    loss = np.log(total) - at_target  # [..., 1]
    return loss.reshape(targets.shape), p


@kernel
def cross_entropy_grad(probabilities: Array, targets: Array, dloss: Array) -> Array:
    """Backward of `cross_entropy`: `dlogits_i = (p_i − [i = target])·dloss`, dloss being `[...]`."""
    column = (*targets.shape, 1)
    is_target = np.arange(probabilities.shape[-1], like=targets) == targets.reshape(column)
    dlogits: Array = probabilities - is_target
    dlogits *= dloss.reshape(column)
    return dlogits
