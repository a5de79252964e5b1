"""Does not gather again: dA from this rank's positions."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "da"
SAYS = "own positions only"


def forward(x: Array, a: Array, group: Group) -> tuple[Array, Any]:
    """[seq/t, hidden] → [seq, out/t]."""
    return group.all_gather(x, axis=0) @ a, x


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array]:
    """[seq, out/t] → [seq/t, hidden] and [hidden, out/t]."""
    n = saved.shape[0]
    mine = dy[group.rank * n : (group.rank + 1) * n]
    return group.reduce_scatter(dy @ a.T, axis=0), saved.T @ mine
