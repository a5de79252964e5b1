"""Every rank waits to receive before it sends."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "y"
SAYS = "deadlock"


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    blocks = {group.rank: matmul(x, a)}
    for step in range(1, group.size):
        following = group.recv(x, left)
        group.send(x, right)
        x = following
        blocks[(group.rank - step) % group.size] = matmul(x, a)
    return np.concatenate([blocks[rank] for rank in range(group.size)])
