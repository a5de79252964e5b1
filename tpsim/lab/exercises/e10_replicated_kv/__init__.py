"""Exercise 10: fewer kv heads than ranks, so that ranks share a head's weight."""

from collections.abc import Mapping
from functools import reduce
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
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Mistake,
    Same,
    Sends,
    split,
)


def sizes(draw: DrawFn, t: int) -> Mapping[str, Any]:
    """Draw kv heads that the ranks share evenly: a divisor of t."""
    small = st.integers(1, 2)
    return {
        "kv_heads": draw(st.sampled_from([g for g in range(1, t + 1) if t % g == 0])),
        "rows": draw(st.integers(1, 3)),
        "hidden": draw(small),
        "head": draw(small),
    }


def deal(case: Case, draw: Draw) -> Deal:
    """K = X Wk by heads; rank r has head r // (t/g), and a head's dWk is the sum over its ranks."""
    t, g = case.t, case.kv_heads
    n = t // g
    wk, x = draw(case.hidden, g * case.head), draw(case.rows, case.hidden)
    dk = [draw(case.rows, case.head) for _ in range(t)]
    heads = split(wk, g, 1)
    shares = [x.T @ mine for mine in dk]

    def summed(sharing: list[list[int]]) -> Each:
        return Each([_sum([shares[r] for r in ranks]) for ranks in sharing])

    blocks = [list(range(r // n * n, r // n * n + n)) for r in range(t)]
    strided = [list(range(r % g, t, g)) for r in range(t)]
    by_kv_heads = [list(range(r // g * g, r // g * g + g)) for r in range(t)]
    dwk = summed(blocks)
    return Deal(
        given={"wk": Same(wk), "kv_heads": Same(g), "x": Same(x), "dk": Each(dk)},
        wanted={"mine": Each([heads[r // n] for r in range(t)]), "dwk": dwk},
        mistakes={
            "mine": [
                Mistake("dealt like cards", _CARDS, Each([heads[r % g] for r in range(t)])),
                Mistake("whole Wk", "this is all of Wk; a rank has the columns of one head", Same(wk)),
            ],
            "dwk": [
                Mistake("missing sum", _MISSING, Each(shares)),
                Mistake("other heads summed in", _ALL, Same(_sum(shares))),
                Mistake("groups of g ranks", _BY_KV_HEADS, summed(by_kv_heads)),
                Mistake("every g-th rank summed", _STRIDED, summed(strided)),
                Mistake("averaged", _MEAN, Each([total / n for total in dwk.values])),
            ],
        },
        traffic={"backward": [Collective("all_reduce", (case.hidden, case.head), ranks=n)]},
    )


def _sum(arrays: list[Array]) -> Array:
    whole: Array = reduce(np.add, arrays)
    return whole


_CARDS = "the heads are dealt out like cards (rank % g): the first t/g ranks have head 0, the next head 1"
_MISSING = (
    "each rank has its own share only: other ranks' queries use the same head, and their shares belong to it"
)
_ALL = "it is the sum over all ranks: ranks with another head have nothing to add to this one"
_BY_KV_HEADS = "it is summed over groups of g ranks: there are g groups, of t/g ranks each"
_STRIDED = "it is summed over every g-th rank: those that share a head are t/g neighbours"
_MEAN = "it is the mean over the ranks of a head: their queries all count fully, so sum, and do not divide"

EXERCISE = Exercise(
    number=10,
    name="replicated_kv",
    title="fewer kv heads than ranks: who shares a head's gradient?",
    level=3,
    chapter=4,
    ranks=(1, 2, 3, 4, 6),
    sizes=sizes,
    deal=deal,
    calls=[
        Call("own_columns", takes="wk kv_heads rank ranks", gives="mine"),
        Call("backward", takes="x dk kv_heads group", gives="dwk"),
    ],
    properties=[
        Equals("mine", 2, "the columns of this rank's head"),
        Equals("dwk", 3, "Xᵀ dK, summed over the ranks of this head and no others"),
        Calls("backward"),
        Sends("backward"),
    ],
    hints=(
        "How many ranks share a head? Write down for t = 4 and g = 2 which head each rank has, and for each "
        "rank whose dK is about the same head.",
        "t/g ranks share a head: rank r has head r // (t // g). group.neighbours(count) is the group of the "
        "`count` adjacent ranks that this one is among; it has all the collectives.",
        "dwk = group.neighbours(group.size // kv_heads).all_reduce(x.T @ dk). With d = wk.shape[1] // "
        "kv_heads, head j is wk[:, j * d : (j + 1) * d].",
    ),
)
