"""10 · Fewer kv heads than ranks: who shares a head's gradient?

Grouped-query attention has few kv heads: Llama-3-70B has 8. On t = 16 ranks there is half a head for each,
and a head is not cut. So t/g neighbouring ranks hold the same head, whole, each with query heads of its
own. With t = 4 ranks and g = 2 kv heads::

    rank        0        1        2        3
    Wk, Wv      head 0   head 0   head 1   head 1        copies, which must stay equal
    queries     q₀       q₁       q₂       q₃            each rank's own

K = X Wk, with X whole on every rank. In backward, rank r has dK_r [rows, d]: the gradient of its head's K by
rank r's queries alone. But the head has queries on t/g ranks.

Contract
--------
own_columns  wk [hidden, g·d] (the whole Wk, one head after another) → mine [hidden, d]. No communication.
backward     x [rows, hidden], dk [rows, d] → dwk [hidden, d]: the gradient of this rank's head, the same on
             all ranks that have it. One all-reduce of [hidden, d] among these t/g ranks, and nothing else.

g divides t. Results have the dtype of what you are given; inputs are not changed.

    group.neighbours(n)     the group of the n adjacent ranks that this one is among: 0 to n−1 are one such
                            group, the next n another. It has all that `group` has.

Check it with: tpsim lab check 10
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def own_columns(wk: Array, kv_heads: int, rank: int, ranks: int) -> Array:
    """Return the columns of this rank's kv head: [hidden, g·d] → [hidden, d]."""
    raise NotImplementedError


def backward(x: Array, dk: Array, kv_heads: int, group: Group) -> Array:
    """Return the gradient of this rank's kv head: [rows, d] → [hidden, d]."""
    raise NotImplementedError
