"""14 · Sequence parallelism: the same bytes, less memory

Two linears of tensor parallelism: Y = X A with A cut by columns, Z = Y C with C cut by rows. X and Z are
[b, s, h]. Until now they were whole on every rank, and so was all that lies between two such pairs: norms,
dropout, residuals, and what these keep for backward. Sequence parallelism cuts it along s::

                 f                          g
        X_r ─────●────▶ X ── A_r, C_r ──────●────▶ Z_r
        [b, s/t, h]     [b, s, h]                  [b, s/t, h]

                 tensor parallelism             with sequence parallelism
        f        nothing, back: all-reduce      X_r must become X, and back: …
        g        all-reduce, back: nothing      a term on each rank must become Z_r, and back: …

An all-reduce by the ring is a reduce-scatter and then an all-gather: f and g together send the same bytes as
before. dA needs all of X once more. To keep it would give back the memory that was saved, so it is gathered
again: the price.

Contract
--------
forward   x [b, s/t, h], a [h, ffn/t], c [ffn/t, h] → z [b, s/t, h], and saved, whatever you need in backward.
          Two collectives on [b, s, h], which send what one all-reduce would.
backward  dz [b, s/t, h], a, c, saved → dx [b, s/t, h], da [h, ffn/t], dc [ffn/t, h]. The collectives opposite
          to those of forward, and the one that brings X back.
saved     an array, or a tuple or dict of arrays: at most this rank's x [b, s/t, h] and y [b, s, ffn/t].

t divides s and ffn. Results have the dtype of what you are given; inputs are not changed.

    group.all_gather(v, axis)       the ranks' v, joined along an axis
    group.reduce_scatter(v, axis)   the sum of the ranks' v, cut along an axis: this rank's part

Check it with: tpsim lab check 14
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, c: Array, group: Group) -> tuple[Array, Any]:
    """Return this rank's part of X A C, and what backward needs: [b, s/t, h] → [b, s/t, h]."""
    raise NotImplementedError


def backward(dz: Array, a: Array, c: Array, saved: Any, group: Group) -> tuple[Array, Array, Array]:
    """Return dx, da and dc: [b, s/t, h] → [b, s/t, h], [h, ffn/t] and [ffn/t, h]."""
    raise NotImplementedError
