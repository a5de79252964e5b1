"""NumPy's own split; the term through a padded A."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def split_columns(a: Array, rank: int, ranks: int) -> Array:
    """[inner, out] → [inner, out/t]."""
    return np.split(a, ranks, axis=1)[rank].copy()


def split_rows(a: Array, rank: int, ranks: int) -> Array:
    """[inner, out] → [inner/t, out]."""
    mine: Array = a.reshape(ranks, -1, a.shape[1])[rank]
    return mine


def term_of_sum(x: Array, rows: Array, rank: int, ranks: int) -> Array:
    """[rows, inner], [inner/t, out] → [rows, out]."""
    padded = np.zeros((ranks, *rows.shape), rows.dtype)
    padded[rank] = rows
    term: Array = x @ padded.reshape(-1, rows.shape[1])
    return term
