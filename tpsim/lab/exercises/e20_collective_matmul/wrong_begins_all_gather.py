"""Multiplies its own rows behind an all-gather; the rest waits for all of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]

FAILS = "gathered_product calls"
SAYS = "wrong collective"


def gathered_product(x: Array, a: Array, group: Group, matmul: Matmul) -> Array:
    """[rows/t, hidden] → [rows, out/t]."""
    t, n = group.size, x.shape[0]
    gathering = group.iall_gather(x, axis=0)
    mine = matmul(x, a)
    whole = gathering.wait()
    before, after = whole[: group.rank * n], whole[(group.rank + 1) * n :]
    parts = [matmul(before, a)] if len(before) else []
    parts += [mine]
    parts += [matmul(after, a)] if group.rank < t - 1 else []
    return np.concatenate(parts)
