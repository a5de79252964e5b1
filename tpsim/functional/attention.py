"""The core of attention, softmax(scale·Q Kᵀ) V, with grouped queries."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32
from tpsim.functional.softmax import softmax, softmax_grad

_KEPT = 1 << 18  # entries of a mask that is made once; larger ones are made each time


def attention(q: Array, k: Array, v: Array, *, causal: bool, scale: float) -> tuple[Array, Array]:
    """Attention of each head, `softmax(scale·Q Kᵀ) V`, with grouped queries.

    Query head j reads key/value head `j // (heads // kv_heads)`. The query heads that share one are stacked
    along the sequence into a taller matrix, so k and v are never repeated.

    With dropout of the probabilities, it comes between the two halves, `attention_probabilities` and
    `attention_output`.

    Parameters
    ----------
    q : Array
        `[batch, heads, seq, size]`.
    k, v : Array
        `[batch, kv_heads, kv_seq, size]`, where kv_heads divides heads.
    causal : bool
        Whether a query sees only its own position and earlier ones. The queries are the *last* seq of kv_seq
        positions (the earlier ones came from a cache); a masked entry gets a probability of exactly 0.
    scale : float
        1/√size, as a rule.

    Returns
    -------
    out : Array
        `[batch, heads, seq, size]`.
    probabilities : Array
        `[batch, heads, seq, kv_seq]`, what the backward needs beside q, k and v.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
    Checkpoints", section 2.2.
    """
    p = attention_probabilities(q, k, causal=causal, scale=scale)
    return attention_output(p, v), p


def attention_grad(
    q: Array, k: Array, v: Array, probabilities: Array, dout: Array, *, scale: float
) -> tuple[Array, Array, Array]:
    """Backward of `attention`: `(dq, dk, dv)`."""
    dp, dv = attention_output_grad(probabilities, v, dout)
    return *attention_probabilities_grad(q, k, probabilities, dp, scale=scale, out=dp), dv


@kernel
@in_float32()
def attention_probabilities(
    q: Array, k: Array, *, causal: bool, scale: float, mask: Array | None = None
) -> Array:
    """`P = softmax(scale·Q Kᵀ + mask)`, the first half of `attention`.

    A mask, with zeros where a query may see a key and −inf elsewhere, is of any shape that goes with
    `[batch, heads, seq, kv_seq]`; it comes in addition to the causal one.
    """
    batch, heads, seq, _ = q.shape
    kv_heads, kv_seq = k.shape[1:3]
    check_shared_heads(q, k)
    # float(): as a NumPy scalar, say 1/np.sqrt(size), the scale would turn float32 into float64
    scaled = stack_heads(q, kv_heads) * float(scale)
    scores = (scaled @ k.swapaxes(-1, -2)).reshape(batch, heads, seq, kv_seq)
    if causal:
        scores += causal_mask(seq, kv_seq, like=q)
    if mask is not None:
        scores += mask
    return softmax(scores, out=scores)


@kernel
@in_float32()
def attention_probabilities_grad(
    q: Array, k: Array, probabilities: Array, dp: Array, *, scale: float, out: Array | None = None
) -> tuple[Array, Array]:
    """Backward of `attention_probabilities`: `(dq, dk)`.

    With dS = softmax_grad(P, dP), `dQ = scale·dS K` and `dK = scale·dSᵀ Q`. dK is a sum over the query heads
    that share a key head, and with those heads stacked the product sums by itself. Masked entries need no
    care: P = 0 makes dS = 0. `out` is for dS, and may be dp itself.
    """
    kv_heads = k.shape[1]
    ds = stack_heads(softmax_grad(probabilities, dp, out=out), kv_heads)
    dq = ds @ k
    dq *= scale
    dk = ds.swapaxes(-1, -2) @ stack_heads(q, kv_heads)
    dk *= scale
    return dq.reshape(q.shape), dk


@kernel
@in_float32()
def attention_output(probabilities: Array, v: Array) -> Array:
    """`O = P V`, the second half of `attention`."""
    batch, heads, seq, _ = probabilities.shape
    out: Array = stack_heads(probabilities, v.shape[1]) @ v  # [batch, kv_heads, heads/kv_heads·seq, size]
    return out.reshape(batch, heads, seq, v.shape[-1])


@kernel
@in_float32()
def attention_output_grad(probabilities: Array, v: Array, dout: Array) -> tuple[Array, Array]:
    """Backward of `attention_output`: `dP = dO Vᵀ` and, summed over the heads that share v, `dV = Pᵀ dO`."""
    p, do = (stack_heads(x, v.shape[1]) for x in (probabilities, dout))
    dp: Array = do @ v.swapaxes(-1, -2)
    return dp.reshape(probabilities.shape), p.swapaxes(-1, -2) @ do


def check_shared_heads(q: Array, k: Array) -> None:
    """Raise ValueError unless every key head has as many query heads."""
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads % kv_heads:
        raise ValueError(
            f"attention: {heads} query heads cannot share {kv_heads} key/value heads evenly; "
            f"pick heads as a multiple of kv_heads, such as {kv_heads * (heads // kv_heads + 1)}"
        )


def stack_heads(x: Array, kv_heads: int) -> Array:
    """Stack the heads that share keys: [batch, heads, seq, n] → [batch, kv_heads, heads/kv_heads·seq, n]."""
    batch, heads, seq, n = x.shape
    stacked: Array = x.reshape(batch, kv_heads, heads // kv_heads * seq, n)
    return stacked


def causal_mask(seq: int, kv_seq: int, like: Array) -> Array:
    """[seq, kv_seq] of 0 where query i may see key j, that is j ≤ i + (kv_seq − seq), and −inf elsewhere."""
    if seq > kv_seq:
        raise ValueError(
            f"attention: {seq} causal queries against {kv_seq} keys, so the first queries see nothing; "
            "pass at least as many keys as queries, or causal=False"
        )
    if isinstance(like, np.ndarray) and seq * kv_seq <= _KEPT:
        return _kept_mask(seq, kv_seq, like.dtype)
    return _new_mask(seq, kv_seq, like)


def _new_mask(seq: int, kv_seq: int, like: Array) -> Array:
    query = np.arange(kv_seq - seq, kv_seq, like=like).reshape(seq, 1)
    key = np.arange(kv_seq, like=like)
    return np.where(key > query, -math.inf, 0.0).astype(like.dtype)


@lru_cache(maxsize=16)
def _kept_mask(seq: int, kv_seq: int, dtype: np.dtype[Any]) -> Array:
    mask = _new_mask(seq, kv_seq, np.empty(0, dtype))
    mask.flags.writeable = False
    return mask
