"""The bias enters the sum once: with the term of rank 0."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """[rows, inner/t] → [rows, out]."""
    term = x @ a
    if group.rank == 0:
        term = term + b
    out = np.empty_like(term)
    group.iall_reduce(term, out=out).wait()
    return out
