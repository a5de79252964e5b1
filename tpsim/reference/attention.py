"""Self-attention: project to queries, keys and values; attend in each head; project back."""

import math

import numpy as np

from tpsim import functional as F
from tpsim.functional import Array
from tpsim.reference.linear import Cache, Grads, Params, only_of


def attention(
    params: Params,
    x: Array,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    rotary_base: float | None = None,
    rotary_scaling: F.RotaryScaling | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
    keep: Array | None = None,
) -> tuple[Array, Cache]:
    """Self-attention of `heads` query heads, in equal groups that share one of `kv_heads` key/value heads.

    Parameters
    ----------
    params : Params
        "qkv.weight" `[h, (heads + 2·kv_heads)·d]`, whose columns are all of Q, then all of K, then all of V;
        "out.weight" `[heads·d, h]`. Optional: "qkv.bias", "out.bias", and "q_norm.weight" and "k_norm.weight"
        `[d]`, of the RMS norms that each query and key head passes between its projection and rotary.
    x : Array
        `[batch, seq, h]`.
    heads, kv_heads : int
        The latter divides the former.
    causal : bool
        Whether a position sees only itself and earlier ones.
    rotary_base : float, optional
        Rotate queries and keys by rotary tables of this base; without it there is no position embedding.
    rotary_scaling : F.RotaryScaling, optional
        Of those tables.
    eps : float
        Of the q and k norms.
    dropout : float
        The share of probabilities that `keep` drops.
    keep : Array, optional
        Booleans `[batch, heads, seq, seq]`: which probabilities are kept; by default all.

    Returns
    -------
    y : Array
        `[batch, seq, h]`.
    cache : Cache
        For `attention_grad`.
    """
    d = params["qkv.weight"].shape[1] // (heads + 2 * kv_heads)
    weights, biases = _cut_qkv(params, heads * d, kv_heads * d)
    q, k, v = (
        _split_heads(F.linear(x, weight, bias), d) for weight, bias in zip(weights, biases, strict=True)
    )
    cache = {"x": x, "v": v}
    if "q_norm.weight" in params:
        cache["q_projected"] = q
        q, cache["q_rstd"] = F.rms_norm(q, params["q_norm.weight"], eps)
    if "k_norm.weight" in params:
        cache["k_projected"] = k
        k, cache["k_rstd"] = F.rms_norm(k, params["k_norm.weight"], eps)
    if rotary_base is not None:
        cos, sin = F.rotary_tables(x.shape[1], d, rotary_base, x, rotary_scaling)
        q, k = F.rotary(q, cos, sin), F.rotary(k, cos, sin)
    probabilities = F.attention_probabilities(q, k, causal=causal, scale=1 / math.sqrt(d))
    dropped = drop(probabilities, keep, dropout)
    merged = _merge_heads(F.attention_output(dropped, v))
    cache |= {"q": q, "k": k, "probabilities": probabilities, "dropped": dropped, "merged": merged}
    return F.linear(merged, params["out.weight"], params.get("out.bias")), cache


def attention_grad(
    params: Params,
    cache: Cache,
    dy: Array,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    rotary_base: float | None = None,
    rotary_scaling: F.RotaryScaling | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
    keep: Array | None = None,
) -> tuple[Array, Grads]:
    """Backward of `attention`."""
    x = cache["x"]
    d = params["qkv.weight"].shape[1] // (heads + 2 * kv_heads)
    grads: Grads = {}
    dmerged, grads["out.weight"], grads["out.bias"] = F.linear_grad(cache["merged"], params["out.weight"], dy)
    ddropped, dv = F.attention_output_grad(cache["dropped"], cache["v"], _split_heads(dmerged, d))
    dprobabilities = drop(ddropped, keep, dropout)
    dq, dk = F.attention_probabilities_grad(
        cache["q"], cache["k"], cache["probabilities"], dprobabilities, scale=1 / math.sqrt(d)
    )
    if rotary_base is not None:
        cos, sin = F.rotary_tables(x.shape[1], d, rotary_base, x, rotary_scaling)
        dq, dk = F.rotary_grad(dq, cos, sin), F.rotary_grad(dk, cos, sin)
    if "q_norm.weight" in params:
        dq, grads["q_norm.weight"] = F.rms_norm_grad(
            cache["q_projected"], params["q_norm.weight"], cache["q_rstd"], dq
        )
    if "k_norm.weight" in params:
        dk, grads["k_norm.weight"] = F.rms_norm_grad(
            cache["k_projected"], params["k_norm.weight"], cache["k_rstd"], dk
        )
    (wq, wk, wv), _ = _cut_qkv(params, heads * d, kv_heads * d)
    dx_q, dwq, dbq = F.linear_grad(x, wq, _merge_heads(dq))
    dx_k, dwk, dbk = F.linear_grad(x, wk, _merge_heads(dk))
    dx_v, dwv, dbv = F.linear_grad(x, wv, _merge_heads(dv))
    grads["qkv.weight"] = np.concatenate((dwq, dwk, dwv), axis=1)
    grads["qkv.bias"] = np.concatenate((dbq, dbk, dbv))
    return dx_q + dx_k + dx_v, only_of(params, grads)


def drop(x: Array, keep: Array | None, rate: float) -> Array:
    """Dropout by a mask, if there is one. It multiplies each entry, and so is its own backward."""
    return x if keep is None else F.dropout(x, keep, rate)


def _cut_qkv(params: Params, q_size: int, kv_size: int) -> tuple[list[Array], list[Array] | list[None]]:
    """Weights and biases of the queries, the keys and the values."""
    cuts = [q_size, q_size + kv_size]
    weights = np.split(params["qkv.weight"], cuts, axis=1)
    if "qkv.bias" in params:
        return weights, np.split(params["qkv.bias"], cuts)
    return weights, [None, None, None]


def _split_heads(x: Array, head_size: int) -> Array:
    batch, seq, _ = x.shape
    return x.reshape(batch, seq, -1, head_size).transpose(0, 2, 1, 3)  # [batch, heads, seq, head_size]


def _merge_heads(x: Array) -> Array:
    batch, heads, seq, head_size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, seq, heads * head_size)
