"""Right numbers by gathering A and dY: each rank does all the work, and holds all of A."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "backward calls"
SAYS = "wrong collective"


def forward(x: Array, a: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, out/t]."""
    return x @ a


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    whole_a, whole_dy = group.all_gather(a, axis=1), group.all_gather(dy, axis=1)
    return whole_dy @ whole_a.T, x.T @ dy
