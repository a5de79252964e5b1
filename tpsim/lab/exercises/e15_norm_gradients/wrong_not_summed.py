"""Each rank keeps its own tokens' share (gpt-neox#1257)."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

FAILS = "all_dgamma"
SAYS = "missing sum"


def shares(normed: Array, dy: Array, dz: Array) -> tuple[Array, Array, Array]:
    """[b, s/t, hidden] twice and [b, s/t, out] → [hidden] twice and [out]."""
    return (dy * normed).sum(axis=(0, 1)), dy.sum(axis=(0, 1)), dz.sum(axis=(0, 1))


def finish(dgamma: Array, dbeta: Array, dbias: Array, group: Group) -> tuple[Array, Array, Array]:
    """Three gradients → the same, over all tokens."""
    return dgamma, dbeta, dbias
