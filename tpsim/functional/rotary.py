"""Rotary position embedding."""

import math
from dataclasses import dataclass

import numpy as np

from tpsim.dry import kernel
from tpsim.functional.narrow import NARROW, Array, in_float32


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
