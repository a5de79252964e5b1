"""3 · The column-parallel linear's backward: why f all-reduces

Y = X A, with A cut by columns: X is whole on every rank, and rank r computes its own columns of Y. Forward
needs no communication. In backward, each rank is given dY_r, the gradient by its own columns of Y::

        X ──┬── A₀ ──▶ Y₀        forward:   every rank uses X
            └── A₁ ──▶ Y₁        backward:  every use of X adds to dX

Megatron-LM calls the place where X enters f: nothing in forward, and in backward what you are to find
out.

Contract
--------
forward   x [rows, hidden] (whole), a [hidden, out/t] → y [rows, out/t]. No communication.
backward  x, a, dy [rows, out/t] → dx [rows, hidden], whole and the same on every rank, and
          da [hidden, out/t]. One all-reduce of [rows, hidden], and nothing else.

Results have the dtype of what you are given; inputs are not changed.

Check it with: tpsim lab check 3
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, group: Group) -> Array:
    """Return this rank's columns of Y: [rows, hidden] → [rows, out/t]."""
    raise NotImplementedError


def backward(x: Array, a: Array, dy: Array, group: Group) -> tuple[Array, Array]:
    """Return dx and da: [rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    raise NotImplementedError
