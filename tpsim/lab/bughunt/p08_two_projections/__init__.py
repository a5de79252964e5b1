"""Patient 8: a replicated weight's gradient is summed although f has summed it already."""

from tpsim.lab.bughunt.patient import Patient
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
    Mistake,
    Same,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """q = (x D) U, with U cut by columns, and its gradients."""
    x, d, u = draw(case.rows, case.hidden), draw(case.hidden, case.narrow), draw(case.narrow, case.width)
    dq = draw(case.rows, case.width)
    c, dc = x @ d, dq @ u.T
    own = [dqr @ ur.T for dqr, ur in zip(split(dq, case.t, 1), split(u, case.t, 1), strict=True)]
    return Deal(
        given={"x": Same(x), "d": Same(d), "u": Cut(u, 1), "dq": Cut(dq, 1)},
        wanted={
            "q": Cut(c @ u, 1),
            "dx": Sum([term @ d.T for term in own]),
            "dd": Same(x.T @ dc),
            "du": Cut(c.T @ dq, 1),
        },
        mistakes={
            "dd": [Mistake("missing sum", "by this rank's queries alone", Each([x.T @ term for term in own]))]
        },
        traffic={"backward": [Collective("all_reduce", (case.rows, case.narrow))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=8,
        name="two_projections",
        title="two projections, one replicated and one cut",
        level=3,
        chapter=5,
        sizes={"rows": one_to(2), "hidden": one_to(3), "narrow": one_to(2), "width": per_rank(2)},
        deal=deal,
        calls=[Call("forward", "x d u", "q saved"), Call("backward", "dq saved group", "dx dd du")],
        properties=[
            Equals("q", 1, "x D U, this rank's columns"),
            Equals("dx", 1, "the gradient of x, on every rank"),
            Equals("dd", 3, "the gradient of D, on every rank"),
            Equals("du", 1, "the gradient of this rank's columns of U"),
            Calls("backward"),
        ],
        hints=(
            "dd is t times too large, and dx, which comes from the same dc, is right. Count the all-reduces "
            "in the table: which values has each of them summed?",
            "The first all-reduce makes dc whole on every rank. What does x.T @ dc have on each rank then, "
            "and what does another sum make of it?",
            "dd is x.T @ dc, with no all-reduce. (If you take out the first all-reduce instead, dd is right "
            "and dx is not.)",
        ),
    ),
    bug="reduced-twice",
    threads=("inclusionAI/AReno#496",),
    story="AReno's multi-head latent attention has replicated down-projections before column-parallel "
    "up-projections. The column-parallel layer all-reduced the gradient of its input, and the trainer then "
    "all-reduced the gradients of all replicated weights: Q's came out t times too large. Of K's and V's, "
    "some rows (those of the rotary part) went around the first sum and needed the second, so that no "
    "factor mends it. The cure moved the border at which gradients are summed.",
    fails="dd",
    kind="summed needlessly",
    shown={"rows": 2, "hidden": 3, "narrow": 2, "width": 4},
)
