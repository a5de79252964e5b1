"""Exercise 19: f's all-reduce hidden behind the weight's gradient."""

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
    Same,
    Sends,
    Sum,
    Takes,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """dX = dY Aᵀ is a sum over ranks, dA = Xᵀ dY each rank's own, and needs no dX."""
    x, a, dy = draw(case.rows, case.hidden), draw(case.hidden, case.out), draw(case.rows, case.out)
    shares = [dyi @ ai.T for dyi, ai in zip(split(dy, case.t, 1), split(a, case.t, 1), strict=True)]
    own = case.out // case.t
    return Deal(
        given={"x": Same(x), "a": Cut(a, 1), "dy": Cut(dy, 1)},
        wanted={"dx": Sum(shares), "da": Cut(x.T @ dy, 1)},
        traffic={"backward": [Collective("all_reduce", (case.rows, case.hidden))]},
        products={"backward": [(case.rows, own, case.hidden), (case.hidden, case.rows, own)]},
    )


EXERCISE = Exercise(
    number=19,
    name="hidden_all_reduce",
    title="hide f's all-reduce behind the weight's gradient",
    level=5,
    chapter=9,
    sizes={"rows": one_to(3), "hidden": one_to(3), "out": per_rank(3)},
    deal=deal,
    calls=[Call("backward", takes="x a dy group matmul", gives="dx da")],
    properties=[
        Equals("dx", 2, "dY Aᵀ, whole on every rank"),
        Equals("da", 2, "this rank's columns of Xᵀ dY"),
        Takes("backward", 0.85, points=4, scale=2048),
        Calls("backward"),
        Sends("backward"),
    ],
    hints=(
        "Two products and an all-reduce: draw an arrow from each to what needs its result. Of two things "
        "without a path between them, both may run at the same time.",
        "dA needs nothing of dX. So compute dX's share first, begin its all-reduce, and while that is under "
        "way compute dA. A non-blocking call returns a handle at once, and its `wait()` the result.",
        "handle = group.iall_reduce(matmul(dy, a.T)); da = matmul(x.T, dy); return handle.wait(), da.",
    ),
)
