"""Patient 8 · Two projections: one that every rank has, one that is cut

Queries by way of a narrow c, as in multi-head latent attention. D is small, and every rank has all of it; U
is cut by columns::

        x ──▶ D ──▶ c ──▶ [ U₀ │ U₁ ] ──▶ q
             all      enter the region

All ranks have the same x, D and c.

Complaint: the loss at step 0 is right. At 8 ranks the gradient norm is far above that of one rank, clipping
sets in at every step, and D behaves as if it had a learning rate of its own.

Contract
--------
forward   x [rows, hidden], d [hidden, narrow], u [narrow, width/t] → q [rows, width/t], and what backward
          needs. No communication.
backward  dq [rows, width/t] → dx [rows, hidden], dd [hidden, narrow], the same on every rank, and
          du [narrow, width/t]. One all-reduce of [rows, narrow].

Run it with: tpsim lab bugs run 8
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, d: Array, u: Array) -> tuple[Array, Any]:
    """[rows, hidden] → [rows, width/t]."""
    c = x @ d
    return c @ u, (x, d, c, u)


def backward(dq: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """[rows, width/t] → [rows, hidden], and the gradients of d and u."""
    x, d, c, u = saved
    du = c.T @ dq
    dc = group.all_reduce(dq @ u.T)  # c enters the region
    dd = x.T @ dc  # d is on every rank, and so is dc, whole: its copies stay equal
    dx = dc @ d.T
    return dx, dd, du
