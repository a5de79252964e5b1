"""Stateless forward/backward pairs: the arithmetic of every layer, with no state and no communication.

Each `f` stands beside its `f_grad`, derived by hand: `f_grad` takes what `f` was given (or saved) and `dy`,
the gradient of the loss by `f`'s result, and returns the gradients by `f`'s inputs.

Arrays are float32 or float64, of one dimension at least, and results keep their dtype; narrow floats
(bfloat16, float16) are for storage only, see `in_float32`. Inputs are never written to, but where a name
says "add"; the in-place updates touch fresh temporaries only: memory traffic is what these functions cost.
What is marked `@kernel` is one kernel on a GPU, and one event of a trace.
Nothing here branches on a value or creates an array but through one it was given, so that arrays that have a
shape and no data (`tpsim.dry`) pass through as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar

import ml_dtypes  # from here on NumPy knows the name "bfloat16", too
import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from tpsim.dry import kernel

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

# --- narrow storage, wide arithmetic ------------------------------------------------------------------------

NARROW = frozenset({np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)})
"""Two-byte floats: arrays lie in memory and travel so, and are computed with in float32."""


def widen(x: Array) -> Array:
    """Return x in float32 if it is narrow, else x itself."""
    return x.astype(np.float32) if x.dtype in NARROW else x


def _widen_array(x: Any) -> Any:
    """`widen` for what may be no array: a None, a number."""
    return widen(x) if hasattr(x, "dtype") else x


def in_float32(*, narrow: int | None = None) -> Callable[[Function], Function]:
    """Let a function read narrow floats, compute in float32, and round its results once, at the end.

    So does a fused GPU kernel: its registers and the accumulators of its matrix products are float32, its
    operands and results in memory bfloat16 or float16. The first argument tells; where it is float32 or
    float64, the function runs as it is.

    Parameters
    ----------
    narrow : int, optional
        How many results, from the first on, are rounded; all by default. Others stay float32: statistics of
        norms, and gradients of weights, which go on being summed.

    References
    ----------
    Micikevicius et al. 2018, "Mixed Precision Training", section 3.3.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wide(*inputs: Any, **named: Any) -> Any:
            dtype = (inputs[0] if inputs else next(iter(named.values()))).dtype
            if dtype not in NARROW:
                return function(*inputs, **named)
            out = named.pop("out", None)
            results = function(*map(_widen_array, inputs), **{k: _widen_array(x) for k, x in named.items()})
            if isinstance(results, tuple):
                count = len(results) if narrow is None else narrow
                return (*(result.astype(dtype) for result in results[:count]), *results[count:])
            if narrow == 0:
                return results
            if out is None:
                return results.astype(dtype)
            out[...] = results
            return out

        return wide  # type: ignore[return-value]  # same signature

    return decorate


def _rows(x: Array) -> Array:
    """See `[..., n]` as the matrix `[rows, n]`: one big GEMM is faster than many small ones."""
    rows: Array = x.reshape(-1, x.shape[-1])
    return rows


def _sum_leading(x: Array) -> Array:
    """Sum over all axes but the last: the gradient of a vector that was broadcast over them."""
    total: Array = np.sum(_rows(x), axis=0)
    return total


# --- linear -------------------------------------------------------------------------------------------------


@kernel
@in_float32()
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Affine map of the last axis, `Y = X A + b`.

    Parameters
    ----------
    x : Array
        `[..., in]`.
    weight : Array
        `[in, out]`.
    bias : Array, optional
        `[out]`.

    Returns
    -------
    Array
        `[..., out]`.
    """
    y: Array = _rows(x) @ weight  # [rows, out]
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1])


def linear_grad(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Backward of `linear`: `(dx, dweight, dbias)`.

    It is made of two independent pieces, `linear_grad_input` and `linear_grad_weight`; a layer that has to
    communicate dx computes that piece first, and the other while the message is on its way.
    """
    return linear_grad_input(weight, dy), *linear_grad_weight(x, dy)


@kernel
@in_float32()
def linear_grad_input(weight: Array, dy: Array) -> Array:
    """Gradient of `linear` by its input, `dX = dY Aᵀ`: `[..., in]`."""
    dx: Array = _rows(dy) @ weight.T
    return dx.reshape(*dy.shape[:-1], weight.shape[0])


@kernel
@in_float32(narrow=0)
def linear_grad_weight(x: Array, dy: Array) -> tuple[Array, Array]:
    """Gradients of `linear` by its parameters, `dA = Xᵀ dY` `[in, out]` and `db = Σ dY` `[out]`."""
    return _rows(x).T @ _rows(dy), _sum_leading(dy)


@kernel
def add_linear_grad_weight(x: Array, dy: Array, dweight: Array) -> Array:
    """Add `dA = Xᵀ dY` of some rows to `dweight`, in place, as a GEMM with β = 1 does; return it."""
    dweight += linear_grad_weight(x, dy)[0]
    return dweight


@kernel
@in_float32(narrow=0)
def bias_grad(dy: Array) -> Array:
    """Gradient of a bias that was added to every row, `db = Σ dY`: `[out]`."""
    return _sum_leading(dy)


# --- activations --------------------------------------------------------------------------------------------

_ERF_END = 6.0  # from here on erf is 1 to the last bit of float64
_ERF_BLOCK = 1 << 15  # elements at a time, so that the temporaries stay in the processor's cache


@lru_cache
def _erfcx_polynomial(degree: int) -> tuple[float, ...]:
    """Coefficients, highest power first, of exp(a²)·erfc(a) as a polynomial in t = (2a − 3)/(a + 3).

    As a goes from 0 to 6, t goes from −1 to 1, and a Chebyshev series in t converges fast. Its coefficients
    are sums over the n zeros of T_n, where `T_m` at zero j is cos(πm(2j + 1)/2n); angles are reduced to one
    turn as integers, so that they keep all their digits.
    """
    n = 64
    cosine = [math.cos(math.pi * i / (2 * n)) for i in range(4 * n)]
    erfcx = []
    for j in range(n):
        t = cosine[2 * j + 1]
        a = 3 * (1 + t) / (2 - t)
        erfcx.append(math.exp(a * a) * math.erfc(a))
    series = [
        2 / n * math.fsum(erfcx[j] * cosine[m * (2 * j + 1) % (4 * n)] for j in range(n))
        for m in range(degree + 1)
    ]
    series[0] /= 2
    return tuple(float(c) for c in chebyshev.cheb2poly(series)[::-1])


@in_float32()
def erf(x: Array) -> Array:
    """Error function, `2/√π ∫₀ˣ exp(−s²) ds`, which NumPy lacks.

    With a = |x|, `erf(a) = 1 − exp(−a²)·C(t)`, where the polynomial C is fitted, on first use, to `math.erfc`
    of the standard library. The largest absolute error is 5e-16 in float64 and 3e-7 in float32.
    """
    flat = x.reshape(-1)
    y = np.empty_like(flat)
    size = _ERF_BLOCK if isinstance(flat, np.ndarray) else max(flat.size, 1)  # shapes fit any cache
    for start in range(0, flat.size, size):
        block = slice(start, start + size)
        _erf_block(flat[block], out=y[block])
    return y.reshape(x.shape)


def _erf_block(x: Array, out: Array) -> None:
    a = np.abs(x)
    np.minimum(a, _ERF_END, out=a)
    t = 2 * a
    t -= 3
    t /= a + 3

    first, *others, last = _erfcx_polynomial(18 if x.dtype == np.float64 else 8)
    y = np.multiply(t, first, out=out)
    for coefficient in others:  # Horner's scheme
        y += coefficient
        y *= t
    y += last

    a *= a
    np.negative(a, out=a)
    np.exp(a, out=a)
    y *= a
    np.subtract(1, y, out=y)
    np.copysign(y, x, out=y)


@kernel
@in_float32()
def gelu(x: Array) -> Array:
    """Gaussian error linear unit, exact form: `x·Φ(x)`, with `Φ(x) = ½(1 + erf(x/√2))`.

    References
    ----------
    Hendrycks & Gimpel 2016, "Gaussian Error Linear Units (GELUs)", section 2.
    """
    y = erf(x * math.sqrt(1 / 2))
    y += 1
    y *= x
    y *= 0.5
    return y


@kernel
@in_float32()
def gelu_grad(x: Array, dy: Array) -> Array:
    """Backward of `gelu`: `dx = dy·(Φ(x) + x·φ(x))`, with the normal density `φ(x) = exp(−x²/2)/√(2π)`."""
    dx = erf(x * math.sqrt(1 / 2))
    dx += 1
    dx *= 0.5
    density = x * x
    density *= -0.5
    np.exp(density, out=density)
    density *= x
    density *= 1 / math.sqrt(2 * math.pi)
    dx += density
    dx *= dy
    return dx


# gelu_tanh takes tanh of _TANH_SCALE·(x + _TANH_CUBIC·x³)
_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715


@kernel
@in_float32()
def gelu_tanh(x: Array) -> Array:
    """Tanh approximation of `gelu`, as in GPT-2: `½x(1 + tanh(√(2/π)·(x + 0.044715x³)))`.

    References
    ----------
    Hendrycks & Gimpel 2016, "Gaussian Error Linear Units (GELUs)", section 2.
    """
    y = x * x
    y *= _TANH_SCALE * _TANH_CUBIC
    y += _TANH_SCALE
    y *= x
    np.tanh(y, out=y)
    y += 1
    y *= x
    y *= 0.5
    return y


@kernel
@in_float32()
def gelu_tanh_grad(x: Array, dy: Array) -> Array:
    """Backward of `gelu_tanh`: `dx = dy·½(1 + T + x(1 − T²)u′)`.

    T = tanh u with u = √(2/π)(x + 0.044715x³).
    """
    slope = x * x
    slope *= _TANH_SCALE * _TANH_CUBIC
    tanh = slope + _TANH_SCALE
    tanh *= x
    np.tanh(tanh, out=tanh)
    slope *= 3
    slope += _TANH_SCALE  # u′
    slope *= x
    dx = tanh * tanh
    np.subtract(1, dx, out=dx)
    dx *= slope
    dx += tanh
    dx += 1
    dx *= 0.5
    dx *= dy
    return dx


def _sigmoid(x: Array) -> Array:
    """1/(1 + exp(−x)), written as ½(1 + tanh(x/2)) because that cannot overflow."""
    y = x * 0.5
    np.tanh(y, out=y)
    y += 1
    y *= 0.5
    return y


@kernel
@in_float32()
def silu(x: Array) -> Array:
    """Sigmoid linear unit (also: swish), `x·σ(x)` with `σ(x) = 1/(1 + exp(−x))`.

    References
    ----------
    Hendrycks & Gimpel 2016, "Gaussian Error Linear Units (GELUs)", section 2, which names it.
    """
    y = _sigmoid(x)
    y *= x
    return y


@kernel
@in_float32()
def silu_grad(x: Array, dy: Array) -> Array:
    """Backward of `silu`: `dx = dy·σ(1 + x(1 − σ))`."""
    sigmoid = _sigmoid(x)
    dx = 1 - sigmoid
    dx *= x
    dx += 1
    dx *= sigmoid
    dx *= dy
    return dx


@kernel
@in_float32()
def swiglu(gate: Array, up: Array) -> Array:
    """Gated linear unit of Llama's MLP, `silu(gate)·up`; all three arrays have one shape.

    References
    ----------
    Shazeer 2020, "GLU Variants Improve Transformer", equation 5.
    """
    y = silu(gate)
    y *= up
    return y


@kernel
@in_float32()
def swiglu_grad(gate: Array, up: Array, dy: Array) -> tuple[Array, Array]:
    """Backward of `swiglu`: `dgate = dy·up·silu′(gate)` and `dup = dy·silu(gate)`."""
    sigmoid = _sigmoid(gate)
    dup = sigmoid * gate  # silu(gate)
    dgate = 1 - sigmoid
    dgate *= dup
    dgate += sigmoid  # silu′(gate) = σ + silu·(1 − σ)
    dgate *= up
    dgate *= dy
    dup *= dy
    return dgate, dup


# --- softmax and cross-entropy ------------------------------------------------------------------------------


@kernel
@in_float32()
def softmax(x: Array, *, out: Array | None = None) -> Array:
    """Softmax over the last axis, `p_i = exp(x_i − m) / Σ_j exp(x_j − m)`.

    The maximum m keeps `exp` from overflowing and cancels in the ratio. An entry of −inf gets exactly 0; a
    row must hold a finite entry. `out` may be x itself.
    """
    p: Array = np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    np.exp(p, out=p)
    p /= np.sum(p, axis=-1, keepdims=True)
    return p


@kernel
@in_float32()
def softmax_grad(p: Array, dp: Array, *, out: Array | None = None) -> Array:
    """Backward of `softmax` from its result p: `dx_i = p_i (dp_i − Σ_j p_j dp_j)`. `out` may be dp itself."""
    dx: Array = np.subtract(dp, np.sum(p * dp, axis=-1, keepdims=True), out=out)
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
    total = np.sum(p, axis=-1, keepdims=True)
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


# --- norms --------------------------------------------------------------------------------------------------


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
    mean: Array = np.mean(x, axis=-1, keepdims=True)
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
    through_mean = np.mean(dx, axis=-1, keepdims=True)
    through_variance = np.mean(dx * normalized, axis=-1, keepdims=True)
    dweight = _sum_leading(dy * normalized)
    normalized *= through_variance
    dx -= through_mean
    dx -= normalized
    dx *= rstd
    return dx, dweight, _sum_leading(dy)


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
    through_square = np.mean(dx * normalized, axis=-1, keepdims=True)
    dweight = _sum_leading(dy * normalized)
    normalized *= through_square
    dx -= normalized
    dx *= rstd
    return dx, dweight


def _rstd(x: Array, eps: float) -> Array:
    """1/√(mean(x²) + ε) over the last axis, kept as an axis of size 1."""
    rstd: Array = np.mean(x * x, axis=-1, keepdims=True)
    rstd += eps
    np.sqrt(rstd, out=rstd)
    return np.divide(1, rstd, out=rstd)


# --- rotary position embedding ------------------------------------------------------------------------------


@dataclass(frozen=True)
class RotaryScaling:
    """Llama 3.1's change of the rotary frequencies, for a context longer than that of the first training.

    A pair that turns `high_frequency` times or more in the first context is left alone; one that turns
    `low_frequency` times or less turns `factor` times slower; those between go over linearly.

    Parameters
    ----------
    factor : float
        How many times slower.
    low_frequency, high_frequency : float
        In turns within the original length.
    original_length : int
        Of the context in the first training.

    References
    ----------
    Llama team 2024, "The Llama 3 Herd of Models", section 3.4.2, for the long context; the formula is
    `apply_scaling` in Meta's code, https://github.com/meta-llama/llama-models.
    """

    factor: float
    low_frequency: float
    high_frequency: float
    original_length: int


@kernel
def rotary_tables(
    seq: int, head_size: int, base: float, like: Array, scaling: RotaryScaling | None = None
) -> tuple[Array, Array]:
    """Cosines and sines of the angles that `rotary` turns by, `angle[p, i] = p·base^(−2i/head_size)`.

    Parameters
    ----------
    seq : int
        Number of positions p, counted from 0.
    head_size : int
        Even.
    base : float
        10000 in the paper and in Llama 2, 500000 in Llama 3.
    like : Array
        An array of the kind and dtype that the tables shall have (float32 for a narrow one). The angles are
        computed in float64 all the same, for late positions turn by many radians and float32 would leave few
        digits of the remainder.
    scaling : RotaryScaling, optional
        Turn slowly turning pairs still slower.

    Returns
    -------
    cos, sin : Array
        `[seq, head_size/2]`.

    References
    ----------
    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", equations 14 and 15.
    """
    _check_even("rotary_tables", head_size)
    position = np.arange(seq, dtype=np.float64, like=like).reshape(seq, 1)
    frequency = base ** (np.arange(0, head_size, 2, dtype=np.float64, like=like) / -head_size)
    if scaling is not None:
        turns = frequency * scaling.original_length / (2 * math.pi)
        between = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
        kept = np.clip(between, 0, 1)
        frequency = frequency * (kept + (1 - kept) / scaling.factor)
    angle = position * frequency  # [seq, head_size/2]
    dtype = np.float32 if like.dtype in NARROW else like.dtype
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


@kernel
@in_float32()
def rotary(x: Array, cos: Array, sin: Array) -> Array:
    """Turn each pair (x₁, x₂) by the angle of its position: `(x₁cos − x₂sin, x₂cos + x₁sin)`.

    x₁ is the first half of the head and x₂ the second, the layout of Llama's weights on Hugging Face. (The
    paper pairs neighbours, 2i and 2i + 1: the same up to a permutation of the head.)

    Parameters
    ----------
    x : Array
        `[..., seq, head_size]`.
    cos, sin : Array
        `[seq, head_size/2]`, from `rotary_tables`.

    Returns
    -------
    Array
        `[..., seq, head_size]`.
    """
    _check_even("rotary", x.shape[-1])
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    y1 = x1 * cos
    y1 -= x2 * sin
    y2 = x2 * cos
    y2 += x1 * sin
    return np.concatenate((y1, y2), axis=-1)


def rotary_grad(dy: Array, cos: Array, sin: Array) -> Array:
    """Backward of `rotary`: the transpose of a rotation is the rotation by the negative angle."""
    return rotary(dy, cos, -sin)


def _check_even(name: str, head_size: int) -> None:
    if head_size % 2:
        raise ValueError(
            f"{name}: head_size {head_size} is odd, so its entries do not form pairs to rotate; "
            f"pick an even head_size, such as {head_size + 1}"
        )


# --- dropout ------------------------------------------------------------------------------------------------


@kernel
@in_float32()
def dropout(x: Array, keep: Array, rate: float) -> Array:
    """Inverted dropout by a given mask, `y = x·keep/(1 − rate)`.

    Parameters
    ----------
    x : Array
        Any shape.
    keep : Array
        Booleans of x's shape.
    rate : float
        The share of entries that are dropped; dividing by the share that is kept leaves the mean as it was.

    References
    ----------
    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 10.
    """
    y: Array = x * keep
    y *= 1 / (1 - rate)
    return y


def dropout_grad(keep: Array, rate: float, dy: Array) -> Array:
    """Backward of `dropout`, which is linear in x and multiplies each entry: the same once more."""
    return dropout(dy, keep, rate)


# --- attention ----------------------------------------------------------------------------------------------


def attention(q: Array, k: Array, v: Array, *, causal: bool, scale: float) -> tuple[Array, Array]:
    """Attention of each head, `softmax(scale·Q Kᵀ) V`, with grouped queries.

    Query head j reads key/value head `j // (heads // kv_heads)`. The query heads that share one are stacked
    along the sequence into a taller matrix, so k and v are never repeated.

    With dropout of the probabilities, it comes between the two halves, `attention_probabilities` and
    `attention_output`.

    Parameters
    ----------
    q : Array
        `[batch, heads, seq, size]`.
    k, v : Array
        `[batch, kv_heads, kv_seq, size]`, where kv_heads divides heads.
    causal : bool
        Whether a query sees only its own position and earlier ones. The queries are the *last* seq of kv_seq
        positions (the earlier ones came from a cache); a masked entry gets a probability of exactly 0.
    scale : float
        1/√size, as a rule.

    Returns
    -------
    out : Array
        `[batch, heads, seq, size]`.
    probabilities : Array
        `[batch, heads, seq, kv_seq]`, what the backward needs beside q, k and v.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
    Checkpoints", section 2.2.
    """
    p = attention_probabilities(q, k, causal=causal, scale=scale)
    return attention_output(p, v), p


def attention_grad(
    q: Array, k: Array, v: Array, probabilities: Array, dout: Array, *, scale: float
) -> tuple[Array, Array, Array]:
    """Backward of `attention`: `(dq, dk, dv)`."""
    dp, dv = attention_output_grad(probabilities, v, dout)
    return *attention_probabilities_grad(q, k, probabilities, dp, scale=scale, out=dp), dv


@kernel
@in_float32()
def attention_probabilities(
    q: Array, k: Array, *, causal: bool, scale: float, mask: Array | None = None
) -> Array:
    """`P = softmax(scale·Q Kᵀ + mask)`, the first half of `attention`.

    A mask, with zeros where a query may see a key and −inf elsewhere, is of any shape that goes with
    `[batch, heads, seq, kv_seq]`; it comes in addition to the causal one.
    """
    batch, heads, seq, _ = q.shape
    kv_heads, kv_seq = k.shape[1:3]
    if heads % kv_heads:
        raise ValueError(
            f"attention: {heads} query heads cannot share {kv_heads} key/value heads evenly; "
            f"pick heads as a multiple of kv_heads, such as {kv_heads * (heads // kv_heads + 1)}"
        )
    # float(): as a NumPy scalar, say 1/np.sqrt(size), the scale would turn float32 into float64
    scaled = _stack_heads(q, kv_heads) * float(scale)
    scores = (scaled @ k.swapaxes(-1, -2)).reshape(batch, heads, seq, kv_seq)
    if causal:
        scores += _causal_mask(seq, kv_seq, like=q)
    if mask is not None:
        scores += mask
    return softmax(scores, out=scores)


@kernel
@in_float32()
def attention_probabilities_grad(
    q: Array, k: Array, probabilities: Array, dp: Array, *, scale: float, out: Array | None = None
) -> tuple[Array, Array]:
    """Backward of `attention_probabilities`: `(dq, dk)`.

    With dS = softmax_grad(P, dP), `dQ = scale·dS K` and `dK = scale·dSᵀ Q`. dK is a sum over the query heads
    that share a key head, and with those heads stacked the product sums by itself. Masked entries need no
    care: P = 0 makes dS = 0. `out` is for dS, and may be dp itself.
    """
    kv_heads = k.shape[1]
    ds = _stack_heads(softmax_grad(probabilities, dp, out=out), kv_heads)
    dq = ds @ k
    dq *= scale
    dk = ds.swapaxes(-1, -2) @ _stack_heads(q, kv_heads)
    dk *= scale
    return dq.reshape(q.shape), dk


@kernel
@in_float32()
def attention_output(probabilities: Array, v: Array) -> Array:
    """`O = P V`, the second half of `attention`."""
    batch, heads, seq, _ = probabilities.shape
    out: Array = _stack_heads(probabilities, v.shape[1]) @ v  # [batch, kv_heads, heads/kv_heads·seq, size]
    return out.reshape(batch, heads, seq, v.shape[-1])


@kernel
@in_float32()
def attention_output_grad(probabilities: Array, v: Array, dout: Array) -> tuple[Array, Array]:
    """Backward of `attention_output`: `dP = dO Vᵀ` and, summed over the heads that share v, `dV = Pᵀ dO`."""
    p, do = (_stack_heads(x, v.shape[1]) for x in (probabilities, dout))
    dp: Array = do @ v.swapaxes(-1, -2)
    return dp.reshape(probabilities.shape), p.swapaxes(-1, -2) @ do


def _stack_heads(x: Array, kv_heads: int) -> Array:
    """Stack the heads that share keys: [batch, heads, seq, n] → [batch, kv_heads, heads/kv_heads·seq, n]."""
    batch, heads, seq, n = x.shape
    stacked: Array = x.reshape(batch, kv_heads, heads // kv_heads * seq, n)
    return stacked


def _causal_mask(seq: int, kv_seq: int, like: Array) -> Array:
    """[seq, kv_seq] of 0 where query i may see key j, that is j ≤ i + (kv_seq − seq), and −inf elsewhere."""
    if seq > kv_seq:
        raise ValueError(
            f"attention: {seq} causal queries against {kv_seq} keys, so the first queries see nothing; "
            "pass at least as many keys as queries, or causal=False"
        )
    query = np.arange(kv_seq - seq, kv_seq, like=like).reshape(seq, 1)
    key = np.arange(kv_seq, like=like)
    return np.where(key > query, -math.inf, 0.0).astype(like.dtype)
