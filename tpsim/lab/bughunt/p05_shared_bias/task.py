"""Patient 5 · A row-parallel linear in training, with the bias before the sum

y = x A + b, with x cut by columns and A by rows; every rank has all of b. A fused product adds a bias for
free, so each rank adds its share, b/t, and the sum has b once::

        y = (x₀ A₀ + b/t) + (x₁ A₁ + b/t)

Complaint: y is right at every t. After a week of training on 8 ranks the biases have hardly moved.

Contract
--------
forward   x [rows, inner/t], a [inner/t, hidden], b [hidden] → y [rows, hidden], the same on every rank, and
          what backward needs. One all-reduce.
backward  dy [rows, hidden] (the same on every rank) → dx [rows, inner/t], da [inner/t, hidden], db [hidden]:
          the gradient of b, the same on every rank. No communication.

Run it with: tpsim lab bugs run 5
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, b: Array, group: Group) -> tuple[Array, Any]:
    """[rows, inner/t] → [rows, hidden]."""
    share = b / group.size
    y = group.all_reduce(x @ a + share)
    return y, (x, a)


def backward(dy: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[rows, hidden] → [rows, inner/t], and the gradients of a and b."""
    x, a = saved
    dx = dy @ a.T
    da = x.T @ dy
    dshare = dy.sum(axis=0)
    db = dshare / group.size  # the chain rule: share = b / t
    return dx, da, db
