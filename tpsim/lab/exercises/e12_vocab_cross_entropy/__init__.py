"""Exercise 12: cross-entropy over logits that are cut along the vocabulary, and never gathered."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim.lab.checking import (
    Array,
    Call,
    Calls,
    Case,
    Collective,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Keeps,
    Mistake,
    Same,
    Sends,
    split,
)

LARGE = {"float64": 200, "float32": 30}
"""What logits of ±1 to ±4 are multiplied by, so that the dtype's exp overflows or gives 0."""


def sizes(draw: DrawFn, t: int) -> Mapping[str, Any]:
    """Draw any number of words: the last ranks may have padding, or nothing but padding."""
    return {
        "tokens": draw(st.integers(1, 3)),
        "words": draw(st.integers(1, 3 * t)),
        "logits": draw(st.sampled_from(["small", "large"])),
    }


def deal(case: Case, draw: Draw) -> Deal:
    """Compute log Σ exp(x − m) − (x_target − m) of the whole row, and its gradient (p − onehot)·dloss."""
    local = -(-case.words // case.t)
    factor = LARGE[case.dtype] if case.logits == "large" else 1
    x = np.full((case.tokens, local * case.t), -np.inf)
    x[:, : case.words] = factor * draw(case.tokens, case.words)
    targets, dloss = draw.integers(0, case.words - 1, case.tokens), draw(case.tokens)

    shifted = x - x.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    onehot = (targets[:, None] == np.arange(x.shape[1])).astype(np.float64)
    at_target = np.take_along_axis(shifted, targets[:, None], 1)[:, 0]
    loss = np.log(total) - at_target
    p = np.exp(shifted) / total[:, None]
    dlogits = (p - onehot) * dloss[:, None]

    parts, hits = split(np.exp(shifted), case.t, 1), split(onehot, case.t, 1)
    mine = [hit.sum(axis=1) for hit in hits]
    with np.errstate(divide="ignore"):
        own_total = [np.log(part.sum(axis=1)) - at_target for part in parts]
    own_target = [np.log(total) - has * at_target for has in mine]
    at_owner = [has[:, None] * part for has, part in zip(mine, split(dlogits, case.t, 1), strict=True)]
    return Deal(
        given={"logits": Cut(x, 1), "targets": Same(targets), "dloss": Same(dloss)},
        wanted={"loss": Same(loss), "dlogits": Cut(dlogits, 1)},
        mistakes={
            "loss": [
                Mistake("0 times −inf", _NAN, Same(_masked_by_product(loss, x, targets, case.t))),
                Mistake("no maximum", _NO_MAX, Same(_without_maximum(x.astype(case.dtype), targets))),
                Mistake("own words only", _OWN_TOTAL, Each(own_total)),
                Mistake("target missing", _OWN_TARGET, Each(own_target)),
                Mistake("own maxima", _OWN_MAX, Same(_with_own_maxima(x, targets, case.t))),
            ],
            "dlogits": [
                Mistake("only at the target's rank", _AT_OWNER, Each(at_owner)),
                Mistake("no dloss", "multiply by each token's dloss", Cut(p - onehot, 1)),
                Mistake("no target", "1 is to be taken off at the target", Cut(p * dloss[:, None], 1)),
            ],
        },
        traffic={"forward": [Collective("all_reduce", (case.tokens,))] * 3},
    )


def _with_own_maxima(x: Array, targets: Array, t: int) -> Array:
    """Return the loss where each rank subtracts the maximum of its own logits."""
    own = np.repeat(x.reshape(len(x), t, -1).max(axis=2), x.shape[1] // t, axis=1)
    with np.errstate(invalid="ignore"):
        shifted = x - own
    loss: Array = np.log(np.exp(shifted).sum(axis=1)) - np.take_along_axis(shifted, targets[:, None], 1)[:, 0]
    return loss


def _without_maximum(x: Array, targets: Array) -> Array:
    """Return the loss where nothing is subtracted, in the dtype of x, which has its limits."""
    with np.errstate(over="ignore", divide="ignore"):
        loss: Array = np.log(np.exp(x).sum(axis=1)) - np.take_along_axis(x, targets[:, None], 1)[:, 0]
    return loss


def _masked_by_product(loss: Array, x: Array, targets: Array, t: int) -> Array:
    """Return the loss where a mask multiplies the logit in column 0 of ranks that lack the target."""
    local = x.shape[1] // t
    lost = [np.isneginf(x[:, r * local]) & (targets // local != r) for r in range(t)]
    return np.where(np.any(lost, axis=0), np.nan, loss)


_NAN = (
    "a mask was multiplied with −inf, the logit of padding, and 0 · −inf is not 0 but NaN: take "
    "`np.where(mine, logit, 0)`"
)
_NO_MAX = (
    "exp of a large logit is infinite, and if all are far below 0, the sum of their exp is 0: subtract the "
    "largest logit first"
)
_OWN_TOTAL = "the sum of exponentials goes over this rank's words only: all-reduce it"
_OWN_TARGET = (
    "a rank that does not have the target's logit took 0 for it, and left it there: all-reduce it, so that "
    "every rank has it"
)
_OWN_MAX = (
    "each rank subtracted its own maximum, and sums of exp(x − m) with different m do not add up: all-reduce "
    'the maximum first, op="max"'
)
_AT_OWNER = (
    "only the rank that has the target has a gradient: every word's probability enters the loss, and is "
    "pushed down, on whichever rank it is"
)


def most_kept(case: Case) -> int:
    """Return the bytes of [n, V/t] elements and of four numbers a token."""
    local = -(-case.words // case.t)
    return int(case.tokens * (local * case.itemsize + 4 * 8))


EXERCISE = Exercise(
    number=12,
    name="vocab_cross_entropy",
    title="cross-entropy without gathering the logits",
    level=4,
    chapter=6,
    sizes=sizes,
    deal=deal,
    calls=[
        Call("forward", takes="logits targets group", gives="loss saved"),
        Call("backward", takes="dloss saved group", gives="dlogits"),
    ],
    properties=[
        Equals("loss", 4, "log Σ exp(x) − x_target, on every rank"),
        Equals("dlogits", 3, "(p − onehot) · dloss for this rank's words"),
        Calls("forward", 2),
        Calls("backward"),
        Sends("forward"),
        Keeps("saved", most_kept),
    ],
    hints=(
        "loss = log Σ exp(x − m) − (x_target − m), for any m. Which three numbers a token does a rank need "
        "from the others? Which of them first?",
        'm = group.all_reduce(logits.max(axis=1), op="max"); then, with shifted = logits − m, all-reduce the '
        "sum of np.exp(shifted), and the target's shifted logit, for which ranks that lack it bring 0 "
        "(by np.where: 0 times −inf is not 0).",
        "loss = np.log(total) − at_target. The target is in column targets − group.rank · V/t, here if "
        "that is from 0 to V/t − 1. Save p = np.exp(shifted) / total, the column, and whether it is here. "
        "Backward: p · dloss, less dloss at the target.",
    ),
)
