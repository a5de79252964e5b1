"""All-reduces, and takes its positions of the sum: right, at twice the bytes."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "backward calls"
SAYS = "wrong collective"


def forward(x: Array, a: Array, group: Group) -> tuple[Array, Any]:
    """[seq/t, hidden] → [seq, out/t]."""
    return group.all_gather(x, axis=0) @ a, x


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array]:
    """[seq, out/t] → [seq/t, hidden] and [hidden, out/t]."""
    whole, n = group.all_gather(saved, axis=0), saved.shape[0]
    dx = group.all_reduce(dy @ a.T)
    return dx[group.rank * n : (group.rank + 1) * n], whole.T @ dy
