"""Cuts A by rows, and sums after GELU."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.functional import gelu

Array = NDArray[Any]

FAILS = "my_a"
SAYS = "rows first"


def cut(
    a: Array, bias_a: Array, b: Array, bias_b: Array, rank: int, ranks: int
) -> tuple[Array, Array, Array, Array]:
    """A by rows."""
    n, m = bias_b.size // ranks, bias_a.size // ranks
    return a[rank * n : (rank + 1) * n], bias_a, b[rank * m : (rank + 1) * m], bias_b


def mlp(x: Array, a: Array, bias_a: Array, b: Array, bias_b: Array, group: Group) -> Array:
    """Take GELU of each rank's term."""
    n, m = a.shape[0], b.shape[0]
    h = gelu(x[:, group.rank * n : (group.rank + 1) * n] @ a + bias_a)
    return group.all_reduce(h[:, group.rank * m : (group.rank + 1) * m] @ b) + bias_b
