"""Patient 7: a norm's gradient is averaged over ranks under sequence parallelism, and not summed."""

import numpy as np

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
    Same,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = γ x / rms(x), and its gradients."""
    x, gamma, dy = draw(case.rows, case.hidden), draw(case.hidden), draw(case.rows, case.hidden)
    rms = np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    dx = dy * gamma / rms - x * (dy * gamma * x).mean(axis=1, keepdims=True) / rms**3
    terms = [part.sum(axis=0) for part in split(dy * x / rms, case.t, 0)]
    return Deal(
        given={"x": Cut(x, 0), "gamma": Same(gamma), "dy": Cut(dy, 0)},
        wanted={"y": Cut(gamma * x / rms, 0), "dx": Cut(dx, 0), "dgamma": Sum(terms)},
        traffic={"backward": [Collective("all_reduce", (case.hidden,))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=7,
        name="sequence_norm",
        title="a norm under sequence parallelism",
        level=2,
        chapter=7,
        sizes={"rows": per_rank(2), "hidden": one_to(3)},
        deal=deal,
        calls=[Call("forward", "x gamma", "y saved"), Call("backward", "dy saved group", "dx dgamma")],
        properties=[
            Equals("y", 1, "γ x / rms(x), this rank's positions"),
            Equals("dx", 1, "this rank's positions of x's gradient"),
            Equals("dgamma", 3, "the gradient of γ by all positions, on every rank"),
            Calls("backward"),
        ],
        hints=(
            "The trace shows the right all-reduce, of the right shape. What is done with its result?",
            "One device adds up over all positions. Here each rank has added up over its own. How do t sums "
            "over parts give the sum over all?",
            "Do not divide by group.size. Data parallelism divides because its loss is a mean over ranks' "
            "batches; here one loss is spread over the ranks.",
        ),
    ),
    bug="averaged-not-summed",
    threads=("EleutherAI/gpt-neox#1259", "EleutherAI/gpt-neox#1257"),
    story="While GPT-NeoX got Megatron's sequence parallelism (#1257), the hook that reduces the norms' "
    "gradients was registered before deepspeed.initialize, and the copies were not in sync; and it "
    "averaged, as hooks for data parallelism do. #1259 mended both: registered later, and a sum. That the "
    "copies agree was checked by printing them, which could not have told a mean from a sum: equal copies "
    "are not right copies.",
    fails="dgamma",
    kind="averaged",
    shown={"rows": 4, "hidden": 3},
)
