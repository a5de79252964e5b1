"""Exercise 9: attention with its heads across ranks, grouped queries, forward."""

from collections.abc import Callable
from functools import partial
from math import sqrt
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
    Mistake,
    Same,
    Sends,
    Sum,
    split,
)


def sizes(draw: DrawFn, t: int) -> dict[str, Any]:
    """Draw key and value heads that t divides, and query heads in groups."""
    kv_heads = t * draw(st.integers(1, 2))
    return {
        "seq": draw(st.integers(1, 3)),
        "hidden": draw(st.integers(1, 3)),
        "heads": kv_heads * draw(st.integers(1, 3)),
        "kv_heads": kv_heads,
        "size": draw(st.integers(1, 3)),
    }


def attend(q: Array, k: Array, v: Array, *, scale: float, mask: str = "before", axis: int = 1) -> Array:
    """Attention of one head, [seq, size] each; or one of its mistakes."""
    scores, seen = scale * (q @ k.T), np.tri(len(q), dtype=bool)
    if mask == "before":
        scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(axis, keepdims=True))
    p /= p.sum(axis, keepdims=True)
    out: Array = (p * seen if mask == "after" else p) @ v
    return out


def deal(case: Case, draw: Draw) -> Deal:
    """Compute every head of the whole model, one by one."""
    t, queries, keys = case.t, case.heads * case.size, case.kv_heads * case.size
    x = draw.normal(case.seq, case.hidden)
    wq, wk = (draw.normal(case.hidden, width, scale=0.5) for width in (queries, keys))
    wv, wo = draw.normal(case.hidden, keys), draw.normal(queries, case.hidden)
    q, k, v = (
        split(x @ w, count, 1) for w, count in ((wq, case.heads), (wk, case.kv_heads), (wv, case.kv_heads))
    )
    own, own_kv, n = case.heads // t, case.kv_heads // t, case.heads // case.kv_heads
    right = partial(attend, scale=1 / sqrt(case.size))

    def heads(head: Callable[..., Array], kv_of: Callable[[int], int] = lambda j: j // n) -> list[Array]:
        return [head(q[j], k[kv_of(j)], v[kv_of(j)]) for j in range(case.heads)]

    def cut(outs: list[Array]) -> Cut:
        return Cut(np.concatenate(outs, axis=1), 1)

    outs = heads(right)
    out = np.concatenate(outs, axis=1)
    terms = [part @ w for part, w in zip(split(out, t, 1), split(wo, t, 0), strict=True)]
    mixed = [np.stack(outs[r * own : (r + 1) * own]).reshape(case.seq, -1) for r in range(t)]
    in_turns = heads(right, lambda j: j // own * own_kv + j % own % own_kv)
    return Deal(
        given={
            "x": Same(x),
            **{name: Cut(w, 1) for name, w in (("wq", wq), ("wk", wk), ("wv", wv))},
            "wo": Cut(wo, 0),
            "size": Same(case.size),
        },
        wanted={"out": Cut(out, 1), "y": Sum(terms)},
        mistakes={
            "out": [
                Mistake("kv heads in turns", _IN_TURNS, cut(in_turns)),
                Mistake("rank 0's kv heads", _RANK_ZERO, cut(heads(right, lambda j: j % own // n))),
                Mistake("scaled by hidden", _SCALE, cut(heads(partial(right, scale=1 / sqrt(case.hidden))))),
                Mistake("not scaled", _SCALE, cut(heads(partial(right, scale=1)))),
                Mistake("looks ahead", _AHEAD, cut(heads(partial(right, mask="")))),
                Mistake("masked after softmax", _AFTER, cut(heads(partial(right, mask="after")))),
                Mistake("softmax over queries", _QUERIES, cut(heads(partial(right, axis=0)))),
                Mistake("heads and places mixed", _MIXED, Each(mixed)),
            ]
        },
        traffic={"attention": [Collective("all_reduce", (case.seq, case.hidden))]},
    )


_IN_TURNS = (
    "the query heads take the key and value heads in turns, 0 1 0 1; neighbours share one, 0 0 1 1: j // n, "
    "or np.repeat rather than np.tile"
)
_RANK_ZERO = "every rank takes the key and value heads of rank 0: its own are those that wk and wv hold"
_SCALE = "scores are divided by √size, the size of one head, which is the same on every rank"
_AHEAD = "a place looks at later ones: set scores[i, j] with j > i to −inf before the softmax"
_AFTER = "masked after the softmax, a row's weights no longer add up to 1: set the scores to −inf before it"
_QUERIES = (
    "the weights of one query add up to 1: the softmax runs over keys, the last axis of [queries, keys]"
)
_MIXED = "[heads, seq, size] is reshaped straight to [seq, heads · size]: swap the first two axes before that"

EXERCISE = Exercise(
    number=9,
    name="attention_heads",
    title="attention: heads across ranks, with grouped queries",
    level=3,
    chapter=4,
    sizes=sizes,
    deal=deal,
    calls=[
        Call("attend", takes="x wq wk wv size group", gives="out"),
        Call("attention", takes="x wq wk wv wo size group", gives="y"),
    ],
    properties=[
        Equals("out", 4, "the outputs of this rank's heads"),
        Equals("y", 3, "the output projection of all heads, whole on every rank"),
        Calls("attend"),
        Calls("attention", 2),
        Sends("attention"),
    ],
    hints=(
        "Write attention for one head, [seq, size], first. Then count: how many query heads has this rank, "
        "and how many key and value heads? Both follow from the widths of wq and wk.",
        "Split x @ wq into heads of `size` columns, and x @ wk and x @ wv as well. Query head j of this rank "
        "goes with key and value head j // n of this rank. Put the outputs side by side: with wo's rows they "
        "give one term of Y.",
        "For each j: scores = q[j] @ k[j // n].T / math.sqrt(size); scores[np.triu_indices(seq, 1)] = "
        "-np.inf; softmax(scores) @ v[j // n]. np.concatenate these along axis 1; y = "
        "group.all_reduce(out @ wo).",
    ),
    allowed=["tpsim.functional.softmax"],
)
