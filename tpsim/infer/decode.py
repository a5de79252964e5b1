"""Prefill and decode: a model's forward over new tokens only, the earlier ones being in the cache."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tpsim.infer.cache import KVCache
from tpsim.models import LanguageModel
from tpsim.nn.recompute import forgetting

Array = NDArray[Any]


def next_logits(model: LanguageModel, tokens: Array, cache: KVCache, rows: slice = slice(None)) -> Array:
    """Return the logits of what comes next, and keep the tokens' keys and values.

    Parameters
    ----------
    model : LanguageModel
    tokens : array
        Integers [rows, count], which follow on what the rows hold: one each (a decode step), or more.
    cache : KVCache
    rows : slice
        Which rows of the cache; all by default.

    Returns
    -------
    array
        [rows, V/t], of this rank's words, −inf in padding. The head computes the last position alone.
    """
    step = cache.step(tokens.shape[1], rows)
    with forgetting():
        last = model.states(tokens, step)[:, -1:]
        logits: Array = model.head.forward(model.norm.forward(last))
    return logits[:, 0]


def prefill(
    model: LanguageModel, prompt: Array, cache: KVCache, rows: slice = slice(None), chunk: int | None = None
) -> Array:
    """Put a prompt into the cache, `chunk` tokens at a time, and return the logits of what follows it.

    Whole, a prompt of s tokens takes one pass with s × s scores a head; in chunks it leaves room for the
    decode steps of others in between, and no more than chunk × s scores are there at a time.

    Parameters
    ----------
    model, cache, rows
        As for `next_logits`.
    prompt : array
        Integers [rows, s].
    chunk : int, optional
        By default all at once.
    """
    with forgetting():
        for part in chunks(prompt, chunk)[:-1]:
            model.states(part, cache.step(part.shape[1], rows))
    return next_logits(model, chunks(prompt, chunk)[-1], cache, rows)


def chunks(prompt: Array, chunk: int | None) -> list[Array]:
    """Return a prompt, [rows, s], in parts of `chunk` tokens; the last may be shorter."""
    length = prompt.shape[1]
    if length < 1 or (chunk is not None and chunk < 1):
        raise ValueError(
            f"prefill: a prompt of {length} tokens in chunks of {chunk}; give 1 token or more, in chunks of "
            "1 or more"
        )
    size = chunk or length
    return [prompt[:, start : start + size] for start in range(0, length, size)]
