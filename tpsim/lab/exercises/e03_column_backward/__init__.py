"""Exercise 3: the backward of the column-parallel linear, and f's all-reduce."""

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
    """y = X A, with A and dy cut by columns; dX is a sum over ranks, dA is each rank's own."""
    x, a, dy = draw(case.rows, case.hidden), draw(case.hidden, case.out), draw(case.rows, case.out)
    shares = [dyi @ ai.T for dyi, ai in zip(split(dy, case.t, 1), split(a, case.t, 1), strict=True)]
    da = x.T @ dy
    return Deal(
        given={"x": Same(x), "a": Cut(a, 1), "dy": Cut(dy, 1)},
        wanted={"y": Cut(x @ a, 1), "dx": Sum(shares), "da": Cut(da, 1)},
        mistakes={"y": [Mistake("gathered", _GATHERED, Same(x @ a))]},
        traffic={"backward": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


_GATHERED = "this is the whole Y: each rank goes on with its own columns, and nothing is gathered"

EXERCISE = Exercise(
    number=3,
    name="column_backward",
    title="the column-parallel linear's backward: why f all-reduces",
    level=1,
    chapter=3,
    sizes={"rows": one_to(3), "hidden": one_to(3), "out": per_rank(2)},
    deal=deal,
    calls=[
        Call("forward", takes="x a group", gives="y"),
        Call("backward", takes="x a dy group", gives="dx da"),
    ],
    properties=[
        Equals("y", 1, "this rank's columns of X A"),
        Equals("dx", 3, "dY Aᵀ, whole on every rank"),
        Equals("da", 2, "this rank's columns of Xᵀ dY"),
        Calls("forward"),
        Calls("backward"),
        Sends("backward"),
    ],
    hints=(
        "Write the backward of one device first: dX = dY Aᵀ and dA = Xᵀ dY. Which of the two needs columns "
        "that another rank has?",
        "dY Aᵀ sums over all columns, and a rank has only some: dy @ a.T is its share of the sum. dA's "
        "columns need only the same columns of dY.",
        "dx = group.all_reduce(dy @ a.T); da = x.T @ dy, without communication; return both, in this order.",
    ),
)
