"""Multiplies by GELU where its slope is due."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.functional import gelu

Array = NDArray[Any]

FAILS = "da"
SAYS = "GELU for its slope"


def backward(
    dy: Array, x: Array, h: Array, a: Array, b: Array, group: Group
) -> tuple[Array, Array, Array, Array, Array]:
    """Return dx, da, dbias_a, db, dbias_b."""
    dh = dy @ b.T * gelu(h)
    dx = group.all_reduce(dh @ a.T)
    return dx, x.T @ dh, dh.sum(axis=0), gelu(h).T @ dy, dy.sum(axis=0)
