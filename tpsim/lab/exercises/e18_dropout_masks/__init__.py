"""Exercise 18: dropout inside and outside the tensor-parallel region, with the masks of one device."""

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


def factors(case: Case, seed: int, site: int, rows: int, columns: int) -> Array:
    """Return one device's dropout as factors: 0, or 1/(1 − rate) where an entry is kept."""
    words = np.random.Philox(key=[seed, site]).random_raw(rows * columns)
    kept = (words >> np.uint64(11)) / 2.0**53 >= case.rate
    mask: Array = (kept / (1 - case.rate)).reshape(rows, columns)
    return mask


def deal(case: Case, draw: Draw) -> Deal:
    """y = dropout(dropout(h) A): h is cut by columns, A by rows."""
    t, seed = case.t, int(draw.integers(1, 999, 1)[0])
    h, a, dy = draw(case.rows, case.inner), draw(case.inner, case.out), draw(case.rows, case.out)
    inside = factors(case, seed, 0, case.rows, case.inner)
    outside = factors(case, seed, 1, case.rows, case.out)
    terms = [hi @ ai for hi, ai in zip(split(h * inside, t, 1), split(a, t, 0), strict=True)]

    def y(mask: Array, after: Array = outside) -> Array:
        return ((h * mask) @ a) * after

    def dh(mask: Array, after: Array = outside) -> Array:
        return ((dy * after) @ a.T) * mask

    shared = np.tile(factors(case, seed, 0, case.rows, case.inner // t), t)
    first = np.tile(inside[:, : case.inner // t], t)
    blocks = np.hstack(list(inside.reshape(t, case.rows, case.inner // t)))
    unscaled = (1 - case.rate) * inside, (1 - case.rate) * outside
    others = [factors(case, seed + r, 1, case.rows, case.out) for r in range(t)]
    none = np.ones_like(inside)
    return Deal(
        given={"h": Cut(h, 1), "a": Cut(a, 0), "dy": Same(dy), "seed": Same(seed), "rate": Same(case.rate)},
        wanted={
            "y": Sum([term * outside for term in terms]),
            "dh": Cut(dh(inside), 1),
            "da": Cut((h * inside).T @ (dy * outside), 0),
        },
        mistakes={
            "y": [
                Mistake("one mask for all", _SHARED, Same(y(shared))),
                Mistake("one mask for all", _SHARED, Same(y(first))),
                Mistake("cut by rows", _ROWS, Same(y(blocks))),
                Mistake("outside not alike", _ALIKE, Each([y(inside, one) for one in others])),
                Mistake("not scaled", _SCALE, Same(y(*unscaled))),
                Mistake("no mask inside", "dropout inside the region is missing", Same(y(none))),
                Mistake("no mask outside", "dropout of the sum is missing", Same(y(inside, 1 + 0 * dy))),
            ],
            "dh": [
                Mistake("no mask inside", _AGAIN, Cut(dh(none), 1)),
                Mistake("no mask outside", _AGAIN, Cut(dh(inside, 1 + 0 * dy), 1)),
                Mistake("not scaled", _SCALE, Cut(dh(*unscaled), 1)),
            ],
            "da": [Mistake("mask of h forgotten", _INPUT, Cut(h.T @ (dy * outside), 0))],
        },
        traffic={"forward": [Collective("all_reduce", (case.rows, case.out))]},
    )


_SHARED = (
    "every rank drops the same entries of its columns: the mask of t ranks is one mask of [rows, inner], of "
    "which rank r has its own columns"
)
_ROWS = (
    "the numbers are rank r's block of the stream, which is a block of rows: a rank's columns lie in every "
    "row, at row · inner + r · inner/t"
)
_ALIKE = "after the all-reduce all ranks have the same sum, and must drop the same entries of it"
_SCALE = "what is kept is not divided by 1 − rate"
_AGAIN = "what forward dropped has no gradient: draw the same mask again, and drop the same"
_INPUT = "dA = (what was multiplied by A)ᵀ dZ, and that is h after dropout"

EXERCISE = Exercise(
    number=18,
    name="dropout_masks",
    title="dropout inside and outside the region: one device's masks on t ranks",
    level=4,
    chapter=8,
    sizes={"rows": one_to(4), "inner": per_rank(3), "out": one_to(3), "rate": [0.5, 0.25]},
    deal=deal,
    calls=[
        Call("forward", takes="h a seed rate group", gives="y"),
        Call("backward", takes="dy h a seed rate group", gives="dh da"),
    ],
    properties=[
        Equals("y", 4, "what one device computes, on every rank"),
        Equals("dh", 2, "this rank's columns of h's gradient"),
        Equals("da", 2, "this rank's rows of A's gradient"),
        Calls("forward"),
        Calls("backward"),
        Sends("forward"),
    ],
    hints=(
        "Draw the whole mask [rows, inner] on paper, number its entries in the order of the stream, and mark "
        "rank 1's columns. Which numbers are they? And which does rank 1 need of the mask outside?",
        "Inside, row i of this rank begins at number i · inner + rank · n, with n = inner/t = h.shape[1]: "
        "one call of `uniforms` a row. Outside, every rank draws all of it. Backward draws both again.",
        "keep = np.stack([uniforms(seed, INSIDE, i * n * group.size + group.rank * n, n) for i in "
        "range(rows)]) >= rate; then np.where(keep, h / (1 - rate), 0). Backward: dz is dy with the outside "
        "mask, dh is dz @ a.T with the inside one, da is (dropped h).T @ dz. No communication.",
    ),
)
