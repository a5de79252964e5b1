"""Exercise 8: a fused QKV weight is cut, used and put together again by pieces and heads."""

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
)


def sizes(draw: DrawFn, t: int) -> dict[str, Any]:
    """Draw head counts that t divides, and query heads in groups."""
    kv_heads = t * draw(st.integers(1, 2))
    return {
        "heads": kv_heads * draw(st.integers(1, 3)),
        "kv_heads": kv_heads,
        "size": draw(st.integers(1, 2)),
        "hidden": draw(st.integers(1, 2)),
        "rows": draw(st.integers(1, 3)),
    }


def deal(case: Case, draw: Draw) -> Deal:
    """Make each head's columns apart, and lay them side by side: for the whole, and for each rank."""
    t, counts = case.t, (case.heads, case.kv_heads, case.kv_heads)
    pieces = [[draw(case.hidden, case.size) for _ in range(count)] for count in counts]
    w = _columns(pieces)
    shares = [_columns([_block(piece, r, t) for piece in pieces]) for r in range(t)]
    strided = [_columns([piece[r::t] for piece in pieces]) for r in range(t)]
    parts = [[draw(count // t, case.rows, case.size) for count in counts] for _ in range(t)]  # q, k, v
    y = [_columns(part) for part in parts]
    return Deal(
        given={
            "w": Same(w),
            "heads": Same(case.heads),
            "kv_heads": Same(case.kv_heads),
            "y": Each(y),
            "own": Each(shares),
        },
        wanted={
            "share": Each(shares),
            **{name: Each([part[i] for part in parts]) for i, name in enumerate("qkv")},
            "whole": Same(w),
        },
        mistakes={
            "share": [
                Mistake("cut evenly", _EVENLY, Cut(w, 1)),
                Mistake("three equal pieces", _THIRDS, Each([_thirds(w, r, t) for r in range(t)])),
                Mistake("every t-th head", _STRIDED, Each(strided)),
                Mistake("not cut", _WHOLE, Same(w)),
            ],
            **{name: _of_reshape([part[i] for part in parts]) for i, name in enumerate("qkv")},
            "whole": [Mistake("rank by rank", _RANK_BY_RANK, Same(np.concatenate(shares, axis=1)))],
        },
        traffic={"join": [Collective("all_gather", w.shape)]},
    )


def _columns(pieces: list[Any]) -> Array:
    """Lay heads side by side, [rows, size] each."""
    return np.concatenate([head for piece in pieces for head in piece], axis=1)


def _block(heads: list[Array], rank: int, t: int) -> list[Array]:
    n = len(heads) // t
    return heads[rank * n : (rank + 1) * n]


def _thirds(w: Array, rank: int, t: int) -> Array:
    """Return what a rank has that takes each piece to be a third."""
    third = w.shape[1] // 3
    n = third // t
    starts = [piece * third + rank * n for piece in range(3)]
    return np.concatenate([w[:, start : start + n] for start in starts], axis=1)


def _of_reshape(heads: list[Array]) -> list[Mistake]:
    by_row = [own.swapaxes(0, 1) for own in heads]
    mixed = [rows.reshape(own.shape) for rows, own in zip(by_row, heads, strict=True)]
    return [
        Mistake("rows first", _ROWS_FIRST, Each(by_row)),
        Mistake("rows and heads mixed", _MIXED, Each(mixed)),
    ]


_EVENLY = (
    "w is cut into t stretches as if it were one piece, and some ranks get queries only: cut Q, K and V "
    "each, and join a rank's three parts"
)
_WHOLE = "it is whole, and each rank is to hold a t-th of it"
_STRIDED = "these are every t-th head; a rank's heads are one block of neighbours"
_THIRDS = "each piece is taken to be a third of w; Q is heads · size wide, and K and V are kv_heads · size"
_RANK_BY_RANK = (
    "the shares lie one after the other, [ Q₀ K₀ V₀ │ Q₁ K₁ V₁ ]: put the ranks' Q together first, then K, "
    "then V"
)
_ROWS_FIRST = "the axes are [rows, heads, size], and must be [heads, rows, size]"
_MIXED = (
    "reshaped straight to [heads, rows, size], rows and heads are mixed: a row's columns are heads × size, "
    "so reshape to [rows, heads, size] first, and then swap the axes"
)

EXERCISE = Exercise(
    number=8,
    name="fused_qkv",
    title="fused QKV: cut a weight of three pieces by heads, and join it again",
    level=3,
    chapter=4,
    sizes=sizes,
    deal=deal,
    calls=[
        Call("cut", takes="w heads kv_heads rank ranks", gives="share"),
        Call("split_heads", takes="y heads kv_heads ranks", gives="q k v"),
        Call("join", takes="own heads kv_heads group", gives="whole"),
    ],
    properties=[
        Equals("share", 3, "this rank's heads of Q, then of K, then of V"),
        Equals("q", 1, "this rank's query heads"),
        Equals("k", 1, "this rank's key heads"),
        Equals("v", 1, "this rank's value heads"),
        Equals("whole", 3, "w, on every rank"),
        Calls("join"),
        Sends("join"),
    ],
    hints=(
        "How wide is a head? w has heads + 2 kv_heads of them. Find the columns where Q ends and K ends, "
        "split there, and cut each of the three pieces as you would cut a weight of its own.",
        "q, k, v = np.split(w, [heads * size, (heads + kv_heads) * size], axis=1). For split_heads the same "
        "with heads // ranks and kv_heads // ranks, then reshape(rows, -1, size) and swap the first two "
        "axes. For join, ask what order an all-gather along axis 1 gives.",
        "The all-gather gives [ Q₀ K₀ V₀ │ Q₁ K₁ V₁ │ … ]. np.split it into the t shares, split each share "
        "into its Q, K and V as before, and concatenate all Q, then all K, then all V.",
    ),
)
