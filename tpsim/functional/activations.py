"""Activations: GELU, exact and by tanh; SiLU and SwiGLU."""

import math
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32

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
