"""Clears the rest of A, and keeps the whole."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

FAILS = "columns"
SAYS = "input changed"


def split_columns(a: Array, rank: int, ranks: int) -> Array:
    """Write zeros into what belongs to others."""
    n = a.shape[1] // ranks
    a[:, : rank * n] = 0
    return a[:, rank * n : (rank + 1) * n]


def split_rows(a: Array, rank: int, ranks: int) -> Array:
    """[inner, out] → [inner/t, out]."""
    n = a.shape[0] // ranks
    return a[rank * n : (rank + 1) * n]


def term_of_sum(x: Array, rows: Array, rank: int, ranks: int) -> Array:
    """[rows, inner], [inner/t, out] → [rows, out]."""
    n = rows.shape[0]
    return x[:, rank * n : (rank + 1) * n] @ rows
