"""8 · Fused QKV: where a weight of three pieces is cut

Queries, keys and values are computed by one weight, whose columns lie one piece after the other, and in each
piece one head after the other::

    heads 4, kv_heads 2        Q               K       V
                        [ q₀ q₁ q₂ q₃ │ k₀ k₁ │ v₀ v₁ ]        each head is `size` columns
    rank 0 of 2           q₀ q₁         k₀      v₀
    rank 1 of 2                 q₂ q₃      k₁      v₁

A rank computes attention for some heads, and needs all of their columns. Its share has the same three pieces,
only shorter: [ q₀ q₁ │ k₀ │ v₀ ]. With fewer key and value heads than query heads (grouped-query attention),
the pieces are not equally wide.

Contract
--------
heads and kv_heads are the whole model's; t divides both; `size` follows from the shapes.

cut          w [hidden, (heads + 2 kv_heads) · size] → share [hidden, (heads + 2 kv_heads) · size / t].
split_heads  y [rows, (heads + 2 kv_heads) · size / t], which is X · share → q [heads/t, rows, size],
             k and v [kv_heads/t, rows, size].
join         share → w again, on every rank, as a checkpoint is written. One all-gather of w's shape, and
             nothing else.

`cut` and `split_heads` do not communicate. Results have the dtype of what you are given; inputs are not
changed.

    group.all_gather(v, axis)      the ranks' arrays one after the other along an axis, on every rank

Check it with: tpsim lab check 8
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def cut(w: Array, heads: int, kv_heads: int, rank: int, ranks: int) -> Array:
    """Return this rank's share of the weight."""
    raise NotImplementedError


def split_heads(y: Array, heads: int, kv_heads: int, ranks: int) -> tuple[Array, Array, Array]:
    """Return q, k and v of this rank's heads."""
    raise NotImplementedError


def join(share: Array, heads: int, kv_heads: int, group: Group) -> Array:
    """Return the whole weight on every rank."""
    raise NotImplementedError
