"""Attention in blocks of queries: no probability is kept, and what a causal mask hides is never computed.

Of a block of queries, scores, probabilities and results are computed before the next block begins, so that
they are still in the processor's cache. The backward computes a block's probabilities once more, from the two
numbers that were kept of each row: its largest score, and the sum of its exponentials.

References
----------
Dao et al. 2022, "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", algorithms 1
and 4, where the two are m and ℓ. There a block is of some keys too, because a GPU's on-chip memory is small;
here it has whole rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tpsim.dry import kernel
from tpsim.functional.attention import causal_mask, check_shared_heads, stack_heads
from tpsim.functional.narrow import Array, in_float32
from tpsim.functional.sums import dot_last, sum_last

BLOCK = 64  # queries


class _Part(NamedTuple):
    """Some queries, and the keys that they may see: positions from 0."""

    queries: slice
    keys: slice


@kernel
@in_float32(narrow=1)
def flash_attention(
    q: Array, k: Array, v: Array, *, causal: bool, scale: float, block: int = BLOCK
) -> tuple[Array, Array, Array]:
    """Return what `attention` returns first, and two numbers of each row of scores.

    Parameters
    ----------
    q, k, v, causal, scale
        As for `attention`.
    block : int
        Queries at a time.

    Returns
    -------
    out : Array
        `[batch, heads, seq, size]`.
    maximum, total : Array
        `m = max_j score_j` and `Σ_j exp(score_j − m)`, `[batch, heads, seq, 1]`: all that the backward needs
        beside q, k and v.
    """
    check_shared_heads(q, k)
    out, maximum, total = np.empty_like(q), *(np.empty_like(q, shape=(*q.shape[:3], 1)) for _ in range(2))
    for part in _parts(q, k, causal, block):
        scores = _scores(q, k, part, causal, scale)
        largest = np.max(scores, axis=-1, keepdims=True)
        scores -= largest
        p = np.exp(scores, out=scores)
        sums = sum_last(p)
        some = stack_heads(p, k.shape[1]) @ v[:, :, part.keys]
        out[:, :, part.queries] = some.reshape(*p.shape[:3], -1) / sums
        maximum[:, :, part.queries], total[:, :, part.queries] = largest, sums
    return out, maximum, total


@kernel
@in_float32()
def flash_attention_grad(
    q: Array,
    k: Array,
    v: Array,
    maximum: Array,
    total: Array,
    dout: Array,
    *,
    causal: bool,
    scale: float,
    block: int = BLOCK,
) -> tuple[Array, Array, Array]:
    """Backward of `flash_attention`: `(dq, dk, dv)`.

    Block by block, `P = exp(S − m)/ℓ`, `dV += Pᵀ dO`, `dS = P·(dP − Σ_j P_j dP_j)` with `dP = dO Vᵀ`,
    `dQ = scale·dS K` and `dK += scale·dSᵀ Q`.
    """
    dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for part in _parts(q, k, causal, block):
        p = _scores(q, k, part, causal, scale)
        p -= maximum[:, :, part.queries]
        np.exp(p, out=p)
        p /= total[:, :, part.queries]
        do, queries = (stack_heads(x[:, :, part.queries], k.shape[1]) for x in (dout, q))
        dv[:, :, part.keys] += stack_heads(p, k.shape[1]).swapaxes(-1, -2) @ do
        ds = (do @ v[:, :, part.keys].swapaxes(-1, -2)).reshape(p.shape)  # dP
        ds -= dot_last(p, ds)
        ds *= p
        ds *= float(scale)
        stacked = stack_heads(ds, k.shape[1])
        dq[:, :, part.queries] = (stacked @ k[:, :, part.keys]).reshape(*p.shape[:3], -1)
        dk[:, :, part.keys] += stacked.swapaxes(-1, -2) @ queries
    return dq, dk, dv


def _parts(q: Array, k: Array, causal: bool, block: int) -> Iterator[_Part]:
    """Cut the queries; causal ones stand at the last positions of the keys."""
    seq, keys = q.shape[2], k.shape[2]
    for start in range(0, seq, block):
        stop = min(start + block, seq)
        yield _Part(slice(start, stop), slice(0, keys - seq + stop if causal else keys))


def _scores(q: Array, k: Array, part: _Part, causal: bool, scale: float) -> Array:
    """Return the masked scores of some queries, `[batch, heads, queries, keys]`."""
    some = q[:, :, part.queries]
    keys = k[:, :, part.keys]
    # float(): as a NumPy scalar, say 1/np.sqrt(size), the scale would turn float32 into float64
    scores: Array = (stack_heads(some * float(scale), k.shape[1]) @ keys.swapaxes(-1, -2)).reshape(
        *some.shape[:3], keys.shape[2]
    )
    if causal:  # only the last keys are hidden from some of these queries
        count = some.shape[2]
        scores[..., -count:] += causal_mask(count, count, like=q)
    return scores
