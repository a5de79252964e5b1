"""Exercise 16: a sequence-parallel linear that keeps only its own positions for backward."""

from tpsim.lab.checking import (
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
    Sends,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = X A: X is cut by positions, A and dy by columns."""
    x, a, dy = draw(case.seq, case.hidden), draw(case.hidden, case.out), draw(case.seq, case.out)
    columns = list(zip(split(dy, case.t, 1), split(a, case.t, 1), strict=True))
    own = [
        xi.T @ split(dyi, case.t, 0)[r]
        for r, (xi, (dyi, _)) in enumerate(zip(split(x, case.t, 0), columns, strict=True))
    ]
    whole = Collective("all_gather", (case.seq, case.hidden))
    return Deal(
        given={"x": Cut(x, 0), "a": Cut(a, 1), "dy": Cut(dy, 1)},
        wanted={
            "y": Cut(x @ a, 1),
            "dx": Sum([dyi @ ai.T for dyi, ai in columns], axis=0),
            "da": Cut(x.T @ dy, 1),
        },
        mistakes={"da": [Mistake("own positions only", _OWN, Each(own))]},
        traffic={
            "forward": [whole],
            "backward": [whole, Collective("reduce_scatter", (case.seq, case.hidden))],
        },
    )


_OWN = (
    "it sums over this rank's positions only: dA = Xᵀ dY sums over all of them, so gather X again in backward"
)

EXERCISE = Exercise(
    number=16,
    name="saved_memory",
    title="sequence parallelism: keep your own positions, and gather again in backward",
    level=4,
    chapter=7,
    sizes={"seq": per_rank(2), "hidden": one_to(3), "out": per_rank(2)},
    deal=deal,
    calls=[
        Call("forward", takes="x a group", gives="y saved"),
        Call("backward", takes="dy saved a group", gives="dx da"),
    ],
    properties=[
        Equals("y", 1, "this rank's columns of X A, for all positions"),
        Equals("dx", 2, "this rank's positions of dY Aᵀ"),
        Equals("da", 2, "this rank's columns of Xᵀ dY"),
        Keeps("saved", lambda case: case.seq // case.t * case.hidden * case.itemsize, points=3),
        Calls("forward"),
        Calls("backward"),
        Sends("forward"),
        Sends("backward"),
    ],
    hints=(
        "Which of the two products of backward needs X? And where is X after forward, if every rank keeps "
        "what it was given?",
        "dX = dY Aᵀ is a sum over ranks, of which each needs its own positions: a reduce-scatter along axis "
        "0. dA = Xᵀ dY needs all positions of X: the same all-gather as in forward. Nothing else is kept.",
        "forward returns group.all_gather(x, axis=0) @ a, x. Backward: whole = group.all_gather(saved, "
        "axis=0); dx = group.reduce_scatter(dy @ a.T, axis=0); da = whole.T @ dy.",
    ),
)
