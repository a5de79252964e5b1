"""Exercise 11: the embedding, its table cut by rows: forward and backward."""

import numpy as np

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
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = onehot · E, and dE = onehotᵀ · dy, with onehot [tokens, vocab]."""
    tokens = draw.integers(0, case.vocab - 1, case.tokens)
    table, dy = draw(case.vocab, case.hidden), draw(case.tokens, case.hidden)
    onehot = (tokens[:, None] == np.arange(case.vocab)).astype(np.float64)
    hits = split(onehot, case.t, 1)
    unmasked = [hit + _first_for_others(hit) for hit in hits]
    last = onehot * (np.cumsum(onehot[::-1], axis=0)[::-1] == 1)  # of the same tokens, the last alone
    rows = split(table, case.t, 0)
    unmasked_terms = [hit @ mine for hit, mine in zip(unmasked, rows, strict=True)]
    return Deal(
        given={"tokens": Same(tokens), "table": Cut(table, 0), "dy": Same(dy)},
        wanted={
            "y": Sum([hit @ mine for hit, mine in zip(hits, rows, strict=True)]),
            "dtable": Cut(onehot.T @ dy, 0),
        },
        mistakes={
            "y": [
                Mistake("row 0 for others' tokens", _ROW_0, Sum(unmasked_terms)),
                Mistake(
                    "looked up on every rank", _MODULO, Same(sum(mine[tokens % len(mine)] for mine in rows))
                ),
            ],
            "dtable": [
                Mistake("repeats lost", _REPEATS, Cut(last.T @ dy, 0)),
                Mistake("others' tokens in row 0", _ROW_0_GRAD, Each([hit.T @ dy for hit in unmasked])),
                Mistake("whole table", "these are all V rows: a rank has its own", Same(onehot.T @ dy)),
            ],
        },
        traffic={"forward": [Collective("all_reduce", (case.tokens, case.hidden))]},
    )


def _first_for_others(hit: Array) -> Array:
    """Return what is added where a token of another rank is looked up in row 0, and left there."""
    extra = np.zeros_like(hit)
    extra[:, 0] = 1 - hit.sum(axis=1)
    return extra


_ROW_0 = (
    "a token of another rank was looked up in row 0 here, and row 0 entered the sum: take row 0 so that the "
    "look-up does not fail, and then set what was looked up to 0"
)
_MODULO = (
    "every rank found a row for each token, and all of these entered the sum: only the rank that has the "
    "token brings its row, and the others bring zeros"
)
_ROW_0_GRAD = (
    "row 0 has the gradients of other ranks' tokens too: the mask of forward is needed in backward again"
)
_REPEATS = (
    "a token that occurs twice has only its last gradient: `d[rows] += dy` adds once for each row, not once "
    "for each token; `np.add.at(d, rows, dy)` adds all of them"
)

EXERCISE = Exercise(
    number=11,
    name="vocab_embedding",
    title="the embedding, cut along the vocabulary",
    level=3,
    chapter=6,
    sizes={"tokens": one_to(4), "vocab": per_rank(3), "hidden": one_to(2)},
    deal=deal,
    calls=[
        Call("forward", takes="tokens table group", gives="y"),
        Call("backward", takes="tokens dy table group", gives="dtable"),
    ],
    properties=[
        Equals("y", 3, "row token i of the whole E"),
        Equals("dtable", 3, "the sum of dy over the tokens of each of this rank's rows"),
        Calls("forward"),
        Calls("backward"),
        Sends("forward"),
    ],
    hints=(
        "Rank r has rows r·V/t up to (r + 1)·V/t. What must a rank bring to the sum for a token that it does "
        "not have? In backward, which rows of E did a token use, and what if it occurs twice?",
        "With rows = len(table): row = tokens - group.rank * rows; mine = (row >= 0) & (row < rows). Look up "
        "np.where(mine, row, 0), then set to 0 what is not mine, and all-reduce. Backward needs the same row "
        "and mine.",
        "y = group.all_reduce(np.where(mine[:, None], table[np.where(mine, row, 0)], 0)). Backward: "
        "d = np.zeros_like(table); np.add.at(d, row[mine], dy[mine]); return d.",
    ),
)
