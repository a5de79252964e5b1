"""Adds the rank to the seed, outside too: ranks go on with different activations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "y"
SAYS = "outside not alike"

INSIDE, OUTSIDE = 0, 1  # sites


def uniforms(seed: int, site: int, start: int, count: int) -> Array:
    """Return numbers `start` to `start + count` of a site's stream, each from 0 to 1: [count]."""
    skipped = start % 4  # the counter counts blocks of four
    words = np.random.Philox(key=[seed, site], counter=start // 4).random_raw(skipped + count)
    numbers: Array = (words[skipped:] >> np.uint64(11)) / 2.0**53
    return numbers


def inside(x: Array, seed: int, rate: float, group: Group) -> Array:
    """Drop this rank's columns: [rows, inner/t]."""
    rows, n = x.shape
    starts = [i * n * group.size + group.rank * n for i in range(rows)]
    keep = np.stack([uniforms(seed, INSIDE, start, n) for start in starts]) >= rate
    return np.where(keep, x / (1 - rate), np.zeros_like(x))


def outside(x: Array, seed: int, rate: float) -> Array:
    """Drop the same on every rank: [rows, out]."""
    keep = uniforms(seed, OUTSIDE, 0, x.size).reshape(x.shape) >= rate
    return np.where(keep, x / (1 - rate), np.zeros_like(x))


def forward(h: Array, a: Array, seed: int, rate: float, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    return outside(group.all_reduce(inside(h, seed, rate, group) @ a), seed + group.rank, rate)


def backward(dy: Array, h: Array, a: Array, seed: int, rate: float, group: Group) -> tuple[Array, Array]:
    """[rows, out] → [rows, inner/t] and [inner/t, out]."""
    dz = outside(dy, seed + group.rank, rate)
    return inside(dz @ a.T, seed, rate, group), inside(h, seed, rate, group).T @ dz
