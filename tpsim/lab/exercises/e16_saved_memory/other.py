"""Keeps a copy, and hides both collectives behind the products."""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, group: Group) -> tuple[Array, Any]:
    """[seq/t, hidden] → [seq, out/t]."""
    return group.all_gather(x, axis=0) @ a, {"x": x.copy()}


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array]:
    """[seq, out/t] → [seq/t, hidden] and [hidden, out/t]."""
    gathering = group.iall_gather(saved["x"], axis=0)
    scattering = group.ireduce_scatter(dy @ a.T, axis=0)
    da: Array = gathering.wait().T @ dy
    return scattering.wait(), da
