"""Around the ring the other way, into a y that is there from the start."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    t, n = group.size, x.shape[0]
    y = np.empty_like(x, shape=(t * n, a.shape[1]))
    for source in [(group.rank + step) % t for step in range(t)]:
        handles = []
        if (source + 1) % t != group.rank:
            handles = [group.isend(x, (group.rank - 1) % t), group.irecv(x, (group.rank + 1) % t)]
        y[source * n : (source + 1) * n] = matmul(x, a)
        for handle in handles:
            x = handle.wait()
    return y
