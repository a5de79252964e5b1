"""Draws one device's masks whole, and takes columns; dropout as a product."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

INSIDE, OUTSIDE = 0, 1  # sites


def uniforms(seed: int, site: int, start: int, count: int) -> Array:
    """Return numbers `start` to `start + count` of a site's stream, each from 0 to 1: [count]."""
    skipped = start % 4  # the counter counts blocks of four
    words = np.random.Philox(key=[seed, site], counter=start // 4).random_raw(skipped + count)
    numbers: Array = (words[skipped:] >> np.uint64(11)) / 2.0**53
    return numbers


def factors(seed: int, site: int, rate: float, shape: tuple[int, int], like: Array) -> Array:
    """Return one device's mask, as what entries are multiplied by."""
    keep = uniforms(seed, site, 0, shape[0] * shape[1]).reshape(shape) >= rate
    mask: Array = keep.astype(like.dtype) / like.dtype.type(1 - rate)
    return mask


def masks(h: Array, a: Array, seed: int, rate: float, group: Group) -> tuple[Array, Array]:
    """Return this rank's columns of the mask inside, and the mask outside."""
    rows, n = h.shape
    whole = factors(seed, INSIDE, rate, (rows, n * group.size), h)
    return np.split(whole, group.size, axis=1)[group.rank], factors(
        seed, OUTSIDE, rate, (rows, a.shape[1]), h
    )


def forward(h: Array, a: Array, seed: int, rate: float, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    inside, outside = masks(h, a, seed, rate, group)
    return group.all_reduce((h * inside) @ a) * outside


def backward(dy: Array, h: Array, a: Array, seed: int, rate: float, group: Group) -> tuple[Array, Array]:
    """[rows, out] → [rows, inner/t] and [inner/t, out]."""
    inside, outside = masks(h, a, seed, rate, group)
    return (dy * outside) @ a.T * inside, (h * inside).T @ (dy * outside)
