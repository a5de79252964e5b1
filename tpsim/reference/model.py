"""A whole language model: embedding, blocks, norm, logits, loss; and every gradient."""

from collections.abc import Mapping
from typing import Any

from tpsim.functional import Array
from tpsim.reference.attention import drop
from tpsim.reference.block import NO_MASKS, block, block_grad
from tpsim.reference.linear import Cache, Grads, Params
from tpsim.reference.norm import norm, norm_grad
from tpsim.reference.vocabulary import (
    cross_entropy,
    cross_entropy_grad,
    embedding,
    embedding_grad,
    logits,
    logits_grad,
    positions,
    positions_grad,
)


def model(
    params: Params,
    tokens: Array,
    targets: Array,
    *,
    eps: float,
    dropout: float = 0.0,
    masks: Mapping[str, Array] = NO_MASKS,
    loss_options: Mapping[str, Any] | None = None,
    **block_options: Any,
) -> tuple[Array, Cache]:
    """Loss of each token.

    Parameters
    ----------
    params : Params
        "embedding.weight" `[V, h]`, "positions.weight" `[length, h]` if positions are learned, those of
        `block` under "blocks.0.", "blocks.1." and so on, those of the last `norm` under "norm.", and
        "head.weight" `[V, h]`: without it the embedding's is used for both.
    tokens, targets : Array
        Integers `[batch, seq]`.
    eps : float
        That of every norm.
    dropout : float
        The share that is dropped after the embedding and in the blocks' residual branches.
    masks : Mapping
        Which entries are kept: "dropout" `[batch, seq, h]` after the embedding, and those of `block` under
        "blocks.0." and so on. Without a mask nothing is dropped.
    loss_options : Mapping, optional
        Those of `cross_entropy`.
    **block_options
        Those of `block`; a language model is always causal.

    Returns
    -------
    loss : Array
        `[batch, seq]`.
    cache : Cache
        For `model_grad`; `cache["logits"]` are the logits, `[batch, seq, V]`.
    """
    cache: Cache = {}
    x, cache["embedding"] = embedding(_part(params, "embedding"), tokens)
    if "positions.weight" in params:
        x, cache["positions"] = positions(_part(params, "positions"), x)
    x = drop(x, masks.get("dropout"), dropout)
    for name in _blocks(params):
        options = {"eps": eps, "dropout": dropout, "masks": _part(masks, name), **block_options}
        x, cache[name] = block(_part(params, name), x, causal=True, **options)
    x, cache["norm"] = norm(_part(params, "norm"), x, eps=eps)
    cache["logits"], cache["head"] = logits(_part(params, _head(params)), x)
    loss, cache["loss"] = cross_entropy(cache["logits"], targets, **(loss_options or {}))
    return loss, cache


def model_grad(
    params: Params,
    cache: Cache,
    dloss: Array,
    *,
    eps: float,
    dropout: float = 0.0,
    masks: Mapping[str, Array] = NO_MASKS,
    **block_options: Any,
) -> Grads:
    """Backward of `model`. There is no gradient by tokens.

    A tied weight is used twice, so its gradient is the sum of both uses'.
    """
    grads: Grads = {}

    def add(part: str, those: Grads) -> None:
        for name, grad in those.items():
            key = f"{part}.{name}"
            grads[key] = grads[key] + grad if key in grads else grad

    dlogits = cross_entropy_grad(cache["loss"], dloss)
    dx, of_head = logits_grad(_part(params, _head(params)), cache["head"], dlogits)
    add(_head(params), of_head)
    dx, of_norm = norm_grad(_part(params, "norm"), cache["norm"], dx, eps=eps)
    add("norm", of_norm)
    for name in reversed(_blocks(params)):
        options = {"eps": eps, "dropout": dropout, "masks": _part(masks, name), **block_options}
        dx, of_block = block_grad(_part(params, name), cache[name], dx, causal=True, **options)
        add(name, of_block)
    dx = drop(dx, masks.get("dropout"), dropout)
    if "positions.weight" in params:
        dx, of_positions = positions_grad(_part(params, "positions"), cache["positions"], dx)
        add("positions", of_positions)
    add("embedding", embedding_grad(_part(params, "embedding"), cache["embedding"], dx))
    return grads


def _blocks(params: Params) -> list[str]:
    """Names of the blocks, first to last."""
    layers = {int(name.split(".")[1]) for name in params if name.startswith("blocks.")}
    return [f"blocks.{layer}" for layer in sorted(layers)]


def _head(params: Params) -> str:
    """Whose weight makes the logits: its own, or the embedding's."""
    return "head" if "head.weight" in params else "embedding"


def _part(params: Params, name: str) -> Params:
    """Those parameters (or masks) of a part, under their names within it."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in params.items() if key.startswith(start)}
