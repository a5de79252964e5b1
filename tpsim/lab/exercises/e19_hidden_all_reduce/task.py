"""19 · Hide f's all-reduce behind the weight's gradient

The backward of the column-parallel linear once more (exercise 3)::

        dX = all-reduce(dY_r A_rᵀ)          two products, and a collective that moves [rows, hidden]
        dA_r = Xᵀ dY_r

On a GPU, products run on one stream and collectives on another. Written one after another, each waits for the
one before, and the links are idle while the GPU computes, the GPU while data move::

        compute        │ dY Aᵀ │              │ Xᵀ dY │         what you begin with
        communication          │  all-reduce  │

Find the order in which the all-reduce costs next to nothing. Nothing is timed here: the check notes in which
order you begin and wait, and lays that out on an H100's two streams, with sizes × 2048.

Contract
--------
x [rows, hidden] (whole), a [hidden, out/t], dy [rows, out/t] → dx [rows, hidden], whole and the same on every
rank, and da [hidden, out/t]. One all-reduce of [rows, hidden], and nothing else. In time, at most 85 % of
what both products and the all-reduce take one after another.

Results have the dtype of what you are given; inputs are not changed.

    matmul(x, a)                      x @ a, and noted for the timeline: use it for both products
    handle = group.iall_reduce(v)     begins the sum of every rank's v, and returns at once
    handle.wait()                     returns the sum when it is there; v must not change until then

Check it with: tpsim lab check 19
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]
Matmul = Callable[[Array, Array], Array]


def backward(x: Array, a: Array, dy: Array, group: Group, matmul: Matmul) -> tuple[Array, Array]:
    """Return dx and da: [rows, out/t] → [rows, hidden] and [hidden, out/t]."""
    raise NotImplementedError
