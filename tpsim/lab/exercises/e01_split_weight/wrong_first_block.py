"""Every rank takes the first block."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

FAILS = "rows"
SAYS = "another rank's part"


def split_columns(a: Array, rank: int, ranks: int) -> Array:
    """[inner, out] → [inner, out/t]."""
    n = a.shape[1] // ranks
    return a[:, rank * n : (rank + 1) * n]


def split_rows(a: Array, rank: int, ranks: int) -> Array:
    """Forget the rank."""
    return a[: a.shape[0] // ranks]


def term_of_sum(x: Array, rows: Array, rank: int, ranks: int) -> Array:
    """[rows, inner], [inner/t, out] → [rows, out]."""
    n = rows.shape[0]
    return x[:, rank * n : (rank + 1) * n] @ rows
