"""9 · Attention: heads across ranks

Heads know nothing of each other until the output projection adds them up, so a rank can have some of them::

                  Wq_r, Wk_r, Wv_r              Wo_r
    X ──f──▶ q, k, v of this rank's heads ──▶ their outputs ──▶ a term of a sum ──g──▶ Y
              (columns, cut by heads)                            (rows)

With grouped queries, n = heads / kv_heads neighbouring query heads share one key and value head: query head
j looks at key and value head j // n. t divides kv_heads, so a rank has whole groups: heads/t query heads, and
the kv_heads/t key and value heads that they look at. Attention is causal: a place sees itself and those
before it.

    out_j = softmax(Q_j Kᵀ / √size, masked) V        each [seq, size]

Contract
--------
attend     x [seq, hidden] (whole), wq [hidden, heads/t · size], wk and wv [hidden, kv_heads/t · size] →
           out [seq, heads/t · size], the outputs of this rank's heads side by side. No communication.
attention  the same, and wo [heads/t · size, hidden] → y [seq, hidden], the same on every rank. One all-reduce
           of [seq, hidden], and nothing else.

`size` is the size of a head; how many heads a rank has follows from the shapes. Results have the dtype of
what you are given; inputs are not changed.

    from tpsim.functional import softmax       softmax(scores), along the last axis; −inf gives 0

Check it with: tpsim lab check 9
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def attend(x: Array, wq: Array, wk: Array, wv: Array, size: int, group: Group) -> Array:
    """Return the outputs of this rank's heads: [seq, hidden] → [seq, heads/t · size]."""
    raise NotImplementedError


def attention(x: Array, wq: Array, wk: Array, wv: Array, wo: Array, size: int, group: Group) -> Array:
    """Return Y on every rank: [seq, hidden] → [seq, hidden]."""
    raise NotImplementedError
