"""Sums over one axis, and the two-dimensional views that they and matrix products are taken on."""

import numpy as np

from tpsim.functional.narrow import Array


def rows(x: Array) -> Array:
    """See `[..., n]` as the matrix `[rows, n]`: one big GEMM is faster than many small ones."""
    matrix: Array = x.reshape(-1, x.shape[-1])
    return matrix


def sum_leading(x: Array) -> Array:
    """Sum over all axes but the last: the gradient of a vector that was broadcast over them."""
    total: Array = np.sum(rows(x), axis=0)
    return total
