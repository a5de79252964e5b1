"""5 · The column-parallel linear, whole: forward, what is kept, and three gradients

Y = X A + b, with A and b cut by columns, as a layer does it: forward returns Y and what it keeps for its
backward, and backward gives the gradients of X, A and b. X has a batch now::

                              forward                    backward
    X [batch, seq, hidden]    whole on every rank        dX is whole again
    A [hidden, out/t]         this rank's columns        dA: this rank's columns
    b [out/t]                 this rank's entries        db: this rank's entries

b is added to every row of Y. So what is db, and who has all that it takes?

Contract
--------
forward   x, a, b → y [batch, seq, out/t] and saved, an array or a tuple of arrays that together take no more
          memory than x. No communication.
backward  dy [batch, seq, out/t], saved, a → dx [batch, seq, hidden], the same on every rank,
          da [hidden, out/t], and db [out/t]. One all-reduce of [batch, seq, hidden], and nothing else.

Results have the dtype of what you are given; inputs are not changed.

Check it with: tpsim lab check 5
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, b: Array, group: Group) -> tuple[Array, Any]:
    """Return this rank's columns of Y, [batch, seq, out/t], and what is kept for backward."""
    raise NotImplementedError


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array, Array]:
    """Return dx, da and db: [batch, seq, hidden], [hidden, out/t] and [out/t]."""
    raise NotImplementedError
