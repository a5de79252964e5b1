"""Exercise 2: the row-parallel linear, and where its bias is added."""

from tpsim.lab.checking import (
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


def deal(case: Case, draw: Draw) -> Deal:
    """y = X A + b, with X cut by columns and A by rows."""
    x, a, b = draw(case.rows, case.inner), draw(case.inner, case.out), draw(case.out)
    terms = [xi @ ai for xi, ai in zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)]
    return Deal(
        given={"x": Cut(x, 1), "a": Cut(a, 0), "b": Same(b)},
        wanted={"y": Sum(terms, plus=b)},
        mistakes={
            "y": [
                Mistake("bias t times", _EVERYWHERE, Same(x @ a + case.t * b)),
                Mistake("no bias", "b is missing: add it once, after the sum", Same(x @ a)),
            ]
        },
        traffic={"row_linear": [Collective("all_reduce", (case.rows, case.out))]},
    )


_EVERYWHERE = "every rank adds b to its term, and the sum holds it t times; add it once, after the sum"

EXERCISE = Exercise(
    number=2,
    name="row_bias",
    title="the row-parallel linear: where is the bias added?",
    level=1,
    chapter=1,
    sizes={"rows": one_to(3), "inner": per_rank(2), "out": one_to(3)},
    deal=deal,
    calls=[Call("row_linear", takes="x a b group", gives="y")],
    properties=[
        Equals("y", 3, "X A + b on every rank"),
        Calls("row_linear"),
        Sends("row_linear"),
    ],
    hints=(
        "x @ a is one term of a sum of t terms, and every rank needs the sum. Which collective gives it?",
        "group.all_reduce(term) returns the sum over ranks, on every rank. If each rank adds b before it, "
        "how many times is b in the sum?",
        "group.all_reduce(x @ a), and then, on every rank alike, + b.",
    ),
)
