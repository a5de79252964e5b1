"""Returns the gradients in the other order."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "dx"
SAYS = "another result"


def forward(x: Array, a: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, out/t]."""
    return x @ a


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """[rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    return x.T @ dy, group.all_reduce(dy @ a.T)
