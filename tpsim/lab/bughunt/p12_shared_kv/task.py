"""Patient 12 · The fused QKV gradient, where all ranks share the keys and values

Multi-query attention: each rank has query heads of its own, and there is one head of keys and values, of
which every rank has a copy. The weight is one fused piece::

        rank 0   [ Q₀ │ K │ V ]
        rank 1   [ Q₁ │ K │ V ]        K and V: copies, which must stay equal

In backward each rank has the gradients of K and V by its own queries alone. They are summed, in place, where
they lie in the fused gradient.

Complaint: the trace shows both all-reduces, of the right shapes, and the biases agree on all ranks. The
copies of the weights of K and V drift apart all the same.

Contract
--------
x [rows, hidden] (the same on every rank), dqkv [rows, q/t + 2 · head], head (the size of a head) →
dw [hidden, q/t + 2 · head] and db [q/t + 2 · head]: this rank's own columns for its queries, the sum over all
ranks in the last 2 · head columns. Inputs are not changed.

Run it with: tpsim lab bugs run 12
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def reduce_in_place(grad: Array, group: Group) -> None:
    """Sum a gradient over the ranks. A collective wants contiguous memory."""
    buffer = np.ascontiguousarray(grad)
    group.all_reduce(buffer, out=buffer)


def shared(grad: Array, head: int) -> Array:
    """Return the part of a fused gradient that is of K and V: a view, not a copy."""
    return grad[..., -2 * head :]


def backward(x: Array, dqkv: Array, head: int, group: Group) -> tuple[Array, Array]:
    """Return the gradients of the fused weight and bias."""
    dw = x.T @ dqkv
    db = dqkv.sum(axis=0)
    for grad in (dw, db):
        reduce_in_place(shared(grad, head), group)
    return dw, db
