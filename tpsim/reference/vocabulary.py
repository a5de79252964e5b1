"""The two ends of a language model: tokens to vectors and positions, vectors to logits and a loss."""

import numpy as np

from tpsim import functional as F
from tpsim.functional import Array
from tpsim.reference.linear import Cache, Grads, Params


def embedding(params: Params, tokens: Array) -> tuple[Array, Cache]:
    """Rows of "weight" `[V, h]`, one for each token: integers `[batch, seq]` → `[batch, seq, h]`."""
    return params["weight"][tokens], {"tokens": tokens}


def embedding_grad(params: Params, cache: Cache, dy: Array) -> Grads:
    """Backward of `embedding`: each token adds its dy to its row. There is no gradient by tokens."""
    dweight = np.zeros_like(params["weight"])
    for where, token in np.ndenumerate(cache["tokens"]):
        dweight[token] += dy[where]
    return {"weight": dweight}


def positions(params: Params, x: Array) -> tuple[Array, Cache]:
    """Add row i of "weight" `[length, h]` to position i of x `[batch, seq, h]`."""
    return x + params["weight"][: x.shape[1]], {}


def positions_grad(params: Params, cache: Cache, dy: Array) -> tuple[Array, Grads]:
    """Backward of `positions`."""
    dweight = np.zeros_like(params["weight"])
    for of_one_sequence in dy:
        dweight[: dy.shape[1]] += of_one_sequence
    return dy, {"weight": dweight}


def logits(params: Params, x: Array) -> tuple[Array, Cache]:
    """`X Eᵀ`, `[batch, seq, h]` → `[batch, seq, V]`, with E the "weight" `[V, h]`, as in an embedding."""
    return F.linear(x, params["weight"].T), {"x": x}


def logits_grad(params: Params, cache: Cache, dy: Array) -> tuple[Array, Grads]:
    """Backward of `logits`."""
    dx, dweight_transposed, _ = F.linear_grad(cache["x"], params["weight"].T, dy)
    return dx, {"weight": dweight_transposed.T}


def cross_entropy(
    x: Array,
    targets: Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Array, Cache]:
    """Cross-entropy of softmax(x) with each token's wanted distribution q, `−Σ_k q_k log p_k + c·lz²`.

    Parameters
    ----------
    x : Array
        Logits `[batch, seq, V]`.
    targets : Array
        Integers `[batch, seq]`.
    ignore_index : int
        A target of this value has loss 0.
    label_smoothing : float
        α: q is 1 − α at the target and α/(V − 1) at each other word.
    z_loss : float
        c; lz is `log Σ_k exp(x_k)`.

    Returns
    -------
    loss : Array
        `[batch, seq]`.
    cache : Cache
        For `cross_entropy_grad`.

    References
    ----------
    Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", section 7.
    Chowdhery et al. 2022, "PaLM", section 5.
    """
    largest = np.max(x, axis=-1, keepdims=True)
    lz = np.log(np.sum(np.exp(x - largest), axis=-1, keepdims=True)) + largest
    q = np.zeros_like(x)
    for where, target in np.ndenumerate(targets):
        if target != ignore_index:
            q[where] = label_smoothing / max(x.shape[-1] - 1, 1)  # a vocabulary of 1 has no others
            q[*where, target] = 1 - label_smoothing
    log_p = x - lz
    valid = targets != ignore_index
    loss = -np.sum(q * log_p, axis=-1) + z_loss * lz[..., 0] ** 2 * valid
    return loss, {"x": x, "q": q, "lz": lz, "valid": valid, "z_loss": z_loss}


def cross_entropy_grad(cache: Cache, dloss: Array) -> Array:
    """Backward of `cross_entropy`: `[batch, seq]` → `[batch, seq, V]`.

    x acts in two ways: directly on log p = x − lz, and through lz, with ∂lz/∂x = softmax(x).
    """
    dlog_p = -cache["q"] * dloss[..., np.newaxis]
    dlz = -np.sum(dlog_p, axis=-1) + 2 * cache["z_loss"] * cache["lz"][..., 0] * cache["valid"] * dloss
    dx: Array = dlog_p + F.softmax(cache["x"]) * dlz[..., np.newaxis]
    return dx
