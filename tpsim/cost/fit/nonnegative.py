"""Least squares by ratio, with no negative numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ROUNDS = 5
_SCALE = 0.1  # an error from which on a row counts as an outlier


def nonnegative(terms: Array, measured: Array) -> Array:
    """Return c ≥ 0 for which `terms @ c` lies nearest to what was measured.

    Errors are shares of what was measured, so that a long row weighs no more than a short one; rows further
    off than 10 % weigh less and less, as in `search.fit`. There are few numbers: all ways to leave some at 0
    are tried, and the best without a negative one is taken.

    Parameters
    ----------
    terms : array, shape [rows, n]
        None negative. What no row uses stays 0.
    measured : array, shape [rows]
    """
    shares = terms / measured[:, None]
    weights = np.ones(len(measured))
    for _ in range(_ROUNDS):
        best = _best(shares * weights[:, None], weights)
        weights = 1 / np.sqrt(1 + ((shares @ best - 1) / _SCALE) ** 2)
    return best


def _best(terms: Array, target: Array) -> Array:
    found, least = np.zeros(terms.shape[1]), np.inf
    used = np.flatnonzero(terms.any(axis=0))
    for size in range(1, len(used) + 1):
        for chosen in map(list, combinations(used, size)):
            scale = np.linalg.norm(terms[:, chosen], axis=0)
            numbers = np.linalg.lstsq(terms[:, chosen] / scale, target)[0] / scale
            off = float(np.square(terms[:, chosen] @ numbers - target).sum())
            if np.all(numbers >= 0) and off < least:
                found, least = np.zeros(terms.shape[1]), off
                found[chosen] = numbers
    return found
