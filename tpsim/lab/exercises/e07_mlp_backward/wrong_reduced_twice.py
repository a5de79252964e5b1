"""Reduced by f, and once more (AReno#496)."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.functional import gelu, gelu_grad

Array = NDArray[Any]

FAILS = "dx"
SAYS = "summed twice"


def backward(
    dy: Array, x: Array, h: Array, a: Array, b: Array, group: Group
) -> tuple[Array, Array, Array, Array, Array]:
    """Return dx, da, dbias_a, db, dbias_b."""
    dh = gelu_grad(h, dy @ b.T)
    dx = group.all_reduce(dh @ a.T)
    return group.all_reduce(dx), x.T @ dh, dh.sum(axis=0), gelu(h).T @ dy, dy.sum(axis=0)
