"""Deals the columns out like cards."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

FAILS = "columns"
SAYS = "every t-th"


def split_columns(a: Array, rank: int, ranks: int) -> Array:
    """Every t-th column."""
    return a[:, rank::ranks]


def split_rows(a: Array, rank: int, ranks: int) -> Array:
    """[inner, out] → [inner/t, out]."""
    n = a.shape[0] // ranks
    return a[rank * n : (rank + 1) * n]


def term_of_sum(x: Array, rows: Array, rank: int, ranks: int) -> Array:
    """[rows, inner], [inner/t, out] → [rows, out]."""
    n = rows.shape[0]
    return x[:, rank * n : (rank + 1) * n] @ rows
