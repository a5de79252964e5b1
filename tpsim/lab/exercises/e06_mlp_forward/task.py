"""6 · The MLP of Megatron: one all-reduce, and why GELU forbids to begin with rows

    Y = GELU(X A + bias_a) B + bias_b

A and B can each be cut by columns or by rows. A rank that has columns of A computes columns of X A, and one
that has rows computes a term of a sum. GELU acts entry by entry, and wants whole entries::

    GELU([ u │ v ]) = [ GELU(u) │ GELU(v) ]         GELU(u + v) ≠ GELU(u) + GELU(v)

Cut both weights so that no communication is needed before GELU, and a single all-reduce after it. `cut` is
called first, and `mlp` gets what it returns.

Contract
--------
cut  a [hidden, ffn], bias_a [ffn], b [ffn, hidden], bias_b [hidden], all whole → this rank's share of each,
     in this order: the r-th of t equal blocks, or the whole, if each rank needs all of it. Both weights are
     cut. No communication.
mlp  x [rows, hidden] (whole), the four shares → y [rows, hidden], the same on every rank. One all-reduce of
     [rows, hidden], and nothing else.

t divides hidden and ffn. Results have the dtype of what you are given; inputs are not changed.

    from tpsim.functional import gelu       gelu(x), entry by entry

Check it with: tpsim lab check 6
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def cut(
    a: Array, bias_a: Array, b: Array, bias_b: Array, rank: int, ranks: int
) -> tuple[Array, Array, Array, Array]:
    """Return this rank's share of A, bias_a, B and bias_b."""
    raise NotImplementedError


def mlp(x: Array, a: Array, bias_a: Array, b: Array, bias_b: Array, group: Group) -> Array:
    """Return Y on every rank, from this rank's shares: [rows, hidden] → [rows, hidden]."""
    raise NotImplementedError
