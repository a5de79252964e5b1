"""Multiplies, and only then passes on."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "gathered_product takes"
SAYS = "not hidden"


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    blocks = {}
    for step in range(group.size):
        blocks[(group.rank - step) % group.size] = matmul(x, a)
        if step < group.size - 1:
            coming, going = group.irecv(x, left), group.isend(x, right)
            going.wait()
            x = coming.wait()
    return np.concatenate([blocks[rank] for rank in range(group.size)])
