"""7 · The backward of the MLP: where is its one all-reduce?

    Y = GELU(H) B + bias_b,   H = X A + bias_a

with A, bias_a and H cut by columns, B by rows, and X, bias_b and Y whole on every rank::

    forward      X ──f── A_r ── GELU ── B_r ──g──▶ Y      f does nothing, g all-reduces
    backward    dX ◀─f── A_r ── GELU ── B_r ──g── dY      f …?            g …?

Each rank is given dY whole: what Y is used for is the same on every rank. Go back from there, and ask of each
gradient whether a rank can know all of it.

Contract
--------
backward  dy, x [rows, hidden] (whole), h [rows, ffn/t] (before GELU), a [hidden, ffn/t], b [ffn/t, hidden] →
          dx [rows, hidden], the same on every rank, da [hidden, ffn/t], dbias_a [ffn/t], db [ffn/t, hidden],
          dbias_b [hidden]. One all-reduce of [rows, hidden], and nothing else.

Results have the dtype of what you are given; inputs are not changed.

    from tpsim.functional import gelu, gelu_grad
    gelu(h)             entry by entry
    gelu_grad(h, du)    the gradient by h, where du is the gradient by u = gelu(h)

Check it with: tpsim lab check 7
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def backward(
    dy: Array, x: Array, h: Array, a: Array, b: Array, group: Group
) -> tuple[Array, Array, Array, Array, Array]:
    """Return dx, da, dbias_a, db, dbias_b."""
    raise NotImplementedError
