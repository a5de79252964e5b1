"""Patient 2: f's all-reduce in backward is missing."""

import numpy as np

from tpsim.lab.bughunt.patient import Patient
from tpsim.lab.checking import (
    Call,
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
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """h = relu(x A + b) by columns, and its gradients."""
    x, a, b = draw(case.rows, case.hidden), draw(case.hidden, case.inner), draw(case.inner)
    dh = draw(case.rows, case.inner)
    z = x @ a + b
    dz = dh * (z > 0)
    terms = [dzr @ ar.T for dzr, ar in zip(split(dz, case.t, 1), split(a, case.t, 1), strict=True)]
    return Deal(
        given={"x": Same(x), "a": Cut(a, 1), "b": Cut(b, 0), "dh": Cut(dh, 1)},
        wanted={
            "h": Cut(np.maximum(z, 0), 1),
            "dx": Sum(terms),
            "da": Cut(x.T @ dz, 1),
            "db": Cut(dz.sum(axis=0), 0),
        },
        traffic={"backward": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=2,
        name="first_half",
        title="the first half of an MLP, in training",
        level=1,
        chapter=3,
        sizes={"rows": one_to(2), "hidden": one_to(3), "inner": per_rank(2)},
        deal=deal,
        calls=[Call("forward", "x a b", "h saved"), Call("backward", "dh saved group", "dx da db")],
        properties=[
            Equals("h", 1, "relu(x A + b), this rank's columns"),
            Equals("dx", 3, "the gradient of x, on every rank"),
            Equals("da", 1, "the gradient of this rank's columns of A"),
            Equals("db", 1, "the gradient of this rank's part of b"),
            Sends("backward"),
        ],
        hints=(
            "Only dx is wrong, and each rank has another one. Add the ranks' dx together, and compare.",
            "Every column of A has used the whole x. Which ranks' columns does this rank's dx know of?",
            "dz @ a.T is one term of a sum over ranks: all-reduce it. It is the f of the Megatron paper, "
            "which does nothing in forward.",
        ),
    ),
    bug="no-reduce-in-backward",
    threads=("pytorch/torchtitan#1805",),
    story="In torchtitan's mixture of experts, activations left DTensor by to_local() without a word on "
    "where their gradients lie. So nothing knew that each rank's gradient was one term of a sum, and the "
    "reduction in backward never happened. Forward was right, and so were the experts' own gradients; what "
    "lay below learnt from one rank's share. The cure was one argument, grad_placements.",
    fails="dx",
    kind="missing sum",
    shown={"rows": 2, "hidden": 3, "inner": 4},
)
