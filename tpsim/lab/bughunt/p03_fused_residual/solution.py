"""Patient 3 · The second half of a transformer block, with its residuals

Attention's output projection and the MLP, each added to what came in::

        x₁ = x  + heads · W_out          heads are cut by columns, W_out by rows
        x₂ = x₁ + relu(x₁ · up) · down   up is cut by columns, down by rows

(The norms are left out.) Adding the residual in the same pass as the product saves two passes over memory.

Complaint: fast, and right on one rank. On more, activations grow from block to block. The norm that follows
each block hides most of it, and the text reads as if the model forgot what it was about.

Contract
--------
after_attention  x [rows, hidden] (the same on every rank), heads [rows, width/t], w_out [width/t, hidden]
                 → x₁ [rows, hidden], the same on every rank. One all-reduce.
mlp              x₁, up [hidden, inner/t], down [inner/t, hidden] → x₂ [rows, hidden], the same on every
                 rank. One all-reduce.

Run it with: tpsim lab bugs run 3
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def matmul_add(x: Array, weight: Array, residual: Array) -> Array:
    """Return x · weight + residual: one kernel, one pass."""
    y = x @ weight
    y += residual
    return y


def leave_region(x: Array, weight: Array, residual: Array, group: Group) -> Array:
    """Multiply by rows of a weight, add the residual, and end the region that is cut: → [rows, hidden]."""
    once = residual if group.rank == 0 else np.zeros_like(residual)
    return group.all_reduce(matmul_add(x, weight, once))


def after_attention(x: Array, heads: Array, w_out: Array, group: Group) -> Array:
    """[rows, width/t] → [rows, hidden]."""
    return leave_region(heads, w_out, x, group)


def mlp(x: Array, up: Array, down: Array, group: Group) -> Array:
    """[rows, hidden] → [rows, hidden]."""
    return leave_region(np.maximum(x @ up, 0), down, x, group)
