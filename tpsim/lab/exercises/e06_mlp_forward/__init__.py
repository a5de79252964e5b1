"""Exercise 6: the forward of Megatron's MLP; the cut of both weights is found by the student."""

from math import erf, sqrt

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


def gelu(x: Array) -> Array:
    """x Φ(x), by Python's own erf."""
    return np.array([v / 2 * (1 + erf(v / sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def deal(case: Case, draw: Draw) -> Deal:
    """y = GELU(X A + bias_a) B + bias_b: A is cut by columns, B by rows."""
    x = draw.normal(case.rows, case.hidden)
    a, bias_a = draw.normal(case.hidden, case.ffn), draw.normal(case.ffn)
    b, bias_b = draw.normal(case.ffn, case.hidden), draw.normal(case.hidden)
    h = x @ a + bias_a
    parts = zip(split(h, case.t, 1), split(b, case.t, 0), strict=True)
    terms = [gelu(hi) @ bi for hi, bi in parts]
    y = sum(terms) + bias_b
    return Deal(
        given={"x": Same(x), "a": Same(a), "bias_a": Same(bias_a), "b": Same(b), "bias_b": Same(bias_b)},
        wanted={
            "my_a": Cut(a, 1),
            "my_b": Cut(b, 0),
            "my_bias_a": Cut(bias_a, 0),
            "my_bias_b": Same(bias_b),
            "y": Sum(terms, plus=bias_b),
        },
        mistakes={
            "my_a": [Mistake("rows first", _ROWS_FIRST, Cut(a, 0)), Mistake("not cut", _WHOLE, Same(a))],
            "my_b": [Mistake("columns last", _COLUMNS, Cut(b, 1)), Mistake("not cut", _WHOLE, Same(b))],
            "my_bias_a": [Mistake("not cut", _BIAS_A, Same(bias_a))],
            "my_bias_b": [
                Mistake("bias cut", _BIAS_B, Cut(bias_b, 0)),
                Mistake("bias / t", _SHARED, Same(bias_b / case.t)),
            ],
            "y": [
                Mistake("bias t times", _EVERYWHERE, Same(y + (case.t - 1) * bias_b)),
                Mistake("no bias", "bias_b is missing: add it once, after the sum", Same(y - bias_b)),
                Mistake("no GELU", "GELU is missing", Same(h @ b + bias_b)),
                Mistake("GELU last", _LAST, Same(gelu(h @ b) + bias_b)),
                Mistake("GELU last", _LAST, Same(gelu(h @ b + bias_b))),
            ],
        },
        traffic={"mlp": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


_ROWS_FIRST = (
    "A is cut by rows, so each rank has a term of X A, and GELU of a sum is not the sum of GELUs: it would "
    "take an all-reduce before GELU. Cut A by columns, and each rank has whole entries"
)
_COLUMNS = (
    "B is cut by columns, so each rank would need the whole GELU(X A), and has some columns of it: cut B by "
    "the rows that meet these"
)
_WHOLE = "it is whole, and each rank is to hold a t-th of it: that is what tensor parallelism is for"
_BIAS_A = "bias_a is added to a rank's own columns of X A: it is cut as they are"
_BIAS_B = "each rank adds bias_b to whole rows of Y: it needs all of it"
_SHARED = (
    "bias_b is divided by t: add it once, after the sum, and it counts fully, as does its gradient later"
)
_EVERYWHERE = "every rank adds bias_b to its term, and the sum holds it t times; add it once, after the sum"
_LAST = "GELU comes between the two products, not after them"

EXERCISE = Exercise(
    number=6,
    name="mlp_forward",
    title="the MLP's forward: columns, GELU, rows, and one all-reduce",
    level=2,
    chapter=3,
    sizes={"rows": one_to(3), "hidden": per_rank(2), "ffn": per_rank(2)},
    deal=deal,
    calls=[
        Call("cut", takes="a bias_a b bias_b rank ranks", gives="my_a my_bias_a my_b my_bias_b"),
        Call("mlp", takes="x my_a my_bias_a my_b my_bias_b group", gives="y"),
    ],
    properties=[
        Equals("my_a", 1, "this rank's share of A"),
        Equals("my_b", 1, "this rank's share of B"),
        Equals("my_bias_a", 1, "this rank's share of bias_a"),
        Equals("my_bias_b", 1, "bias_b as each rank needs it"),
        Equals("y", 3, "GELU(X A + bias_a) B + bias_b on every rank"),
        Calls("mlp", 2),
        Sends("mlp"),
    ],
    hints=(
        "Which cut of A gives each rank entries of X A that are finished, so that GELU can be taken of them? "
        "What does a rank then have of GELU(X A), and which part of B does that meet?",
        "A by columns, and bias_a with it: rank r has the r-th block of columns of GELU(X A + bias_a). B by "
        "rows: that block times the r-th block of rows of B is a term of the sum that Y is. Where is bias_b "
        "added?",
        "With n = ffn // ranks and mine = slice(rank * n, (rank + 1) * n): return a[:, mine], bias_a[mine], "
        "b[mine], bias_b. Then group.all_reduce(gelu(x @ a + bias_a) @ b) + bias_b.",
    ),
    allowed=["tpsim.functional.gelu"],
)
