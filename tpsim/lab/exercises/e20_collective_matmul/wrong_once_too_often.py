"""Passes on in the last step too: each chunk comes home again."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "gathered_product calls"
SAYS = "collective too many"


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    blocks = {}
    for step in range(group.size):
        coming, going = group.irecv(x, left), group.isend(x, right)
        blocks[(group.rank - step) % group.size] = matmul(x, a)
        going.wait()
        x = coming.wait()
    return np.concatenate([blocks[rank] for rank in range(group.size)])
