"""13 · Clip by the global gradient norm: who counts a replica?

Gradients are clipped by the norm of *all* of them together, √(Σ g²): if it is above a limit, every gradient
is scaled by the same factor. Under tensor parallelism no rank has all of them, and some are on every rank::

                 rank 0     rank 1
        dW       dW₀        dW₁         cut by columns: each rank has its own
        dγ       dγ         dγ          a norm layer's: the same on every rank

The norm must be that of one device, which has one dγ. If ranks used different norms, they would scale their
copies of dγ differently, and the copies of γ would drift apart.

Contract
--------
global_norm  dw [hidden, out/t], dgamma [hidden] (the same on every rank) → norm [1], an array of one number,
             the same on every rank. One all-reduce of [1], and nothing else.
clip         dw, dgamma, norm [1] (the right one, whatever yours is), limit (a number) → dw and dgamma times
             min(1, limit / (norm + 1e-6)). No communication.

Results have the dtype of the gradients; inputs are not changed.

Check it with: tpsim lab check 13
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def global_norm(dw: Array, dgamma: Array, group: Group) -> Array:
    """Return the norm of the whole gradient: [hidden, out/t] and [hidden] → [1]."""
    raise NotImplementedError


def clip(dw: Array, dgamma: Array, norm: Array, limit: float) -> tuple[Array, Array]:
    """Return the gradients, scaled down if the norm is above `limit`."""
    raise NotImplementedError
