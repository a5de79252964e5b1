"""1 · Split a weight by columns and by rows

Y = X A, with X [rows, inner] and A [inner, out]. A is too large for one rank; two ways to share it among t::

    by columns   X · [ A₀ │ A₁ ]  =  [ X A₀ │ X A₁ ]      each rank computes its own columns of Y

                               ⎡ A₀ ⎤
    by rows      [ X₀ │ X₁ ] · ⎢────⎥  =  X₀ A₀ + X₁ A₁   each rank computes one term of a sum
                               ⎣ A₁ ⎦

Write the three functions below. Rank r of t has the r-th block of neighbouring columns (or rows); t divides
both sizes of A.

Contract
--------
Shapes as in the docstrings; results in the dtype of what you are given; inputs are not changed. No
communication.

Check it with: tpsim lab check 1
"""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


def split_columns(a: Array, rank: int, ranks: int) -> Array:
    """Return this rank's columns of A: [inner, out] → [inner, out/t]."""
    raise NotImplementedError


def split_rows(a: Array, rank: int, ranks: int) -> Array:
    """Return this rank's rows of A: [inner, out] → [inner/t, out]."""
    raise NotImplementedError


def term_of_sum(x: Array, rows: Array, rank: int, ranks: int) -> Array:
    """Return this rank's term of X A: whole x [rows, inner], own rows of A [inner/t, out] → [rows, out]."""
    raise NotImplementedError
