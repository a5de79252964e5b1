"""Patient 5: b/t is added on each rank, and its gradient is divided by t."""

from tpsim.lab.bughunt.patient import Patient
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
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = x A + b by rows, and its gradients."""
    x, a, b = draw(case.rows, case.inner), draw(case.inner, case.hidden), draw(case.hidden)
    dy = draw(case.rows, case.hidden)
    terms = [xr @ ar for xr, ar in zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)]
    db = dy.sum(axis=0)
    return Deal(
        given={"x": Cut(x, 1), "a": Cut(a, 0), "b": Same(b), "dy": Same(dy)},
        wanted={
            "y": Sum(terms, plus=b),
            "dx": Cut(dy @ a.T, 1),
            "da": Cut(x.T @ dy, 0),
            "db": Same(db),
        },
        mistakes={
            "y": [Mistake("bias t times", "b is in each rank's term", Same(x @ a + case.t * b))],
            "db": [Mistake("averaged", "it is divided by t", Same(db / case.t))],
        },
        traffic={"forward": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=5,
        name="shared_bias",
        title="a row-parallel linear whose bias hardly moves",
        level=2,
        chapter=3,
        sizes={"rows": one_to(2), "inner": per_rank(2), "hidden": one_to(3)},
        deal=deal,
        calls=[
            Call("forward", "x a b group", "y saved"),
            Call("backward", "dy saved group", "dx da db"),
        ],
        properties=[
            Equals("y", 1, "x A + b on every rank"),
            Equals("dx", 1, "this rank's columns of x's gradient"),
            Equals("da", 1, "this rank's rows of A's gradient"),
            Equals("db", 3, "the gradient of b, on every rank"),
            Calls("forward"),
            Calls("backward"),
        ],
        hints=(
            "db is wrong by a factor. What becomes of the loss if b[0] grows by 1, on one device? And here, "
            "on t ranks, when all copies of b grow?",
            "The chain rule on one rank gives the gradient by that rank's share of b alone. y has t shares, "
            "and all of them follow b.",
            "db is dy.sum(axis=0), not divided: t shares of 1/t each. (Or divide, and all-reduce: the "
            "contract has no collective in backward.)",
        ),
    ),
    bug="row-bias-by-ranks",
    threads=("pytorch/torchtitan#4332",),
    story="After the bias that is added t times (patient 1) comes its cure, which has a flaw of its own. "
    "Torchtitan divided the bias by t before the sum, and autograd divided its gradient by t as well. Each "
    "replica's gradient was 1/t of what it must be, the same on every rank, so no comparison of ranks shows "
    "it. The change that was proposed keeps b/t in forward and 1 in the derivative: "
    "b + (b/t − b).detach().",
    fails="db",
    kind="averaged",
    shown={"rows": 2, "inner": 4, "hidden": 3},
)
