"""Patient 3: the residual is added before the all-reduce, on every rank."""

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
    Mistake,
    Same,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """x₁ = x + heads · W_out, then x₂ = x₁ + relu(x₁ · up) · down."""
    x, heads, w_out = draw(case.rows, case.hidden), draw(case.rows, case.width), draw(case.width, case.hidden)
    up, down = draw(case.hidden, case.inner), draw(case.inner, case.hidden)
    x1 = x + heads @ w_out
    h = np.maximum(x1 @ up, 0)
    out = [hr @ wr for hr, wr in zip(split(heads, case.t, 1), split(w_out, case.t, 0), strict=True)]
    mlp = [hr @ dr for hr, dr in zip(split(h, case.t, 1), split(down, case.t, 0), strict=True)]
    return Deal(
        given={
            "x": Same(x),
            "heads": Cut(heads, 1),
            "w_out": Cut(w_out, 0),
            "up": Cut(up, 1),
            "down": Cut(down, 0),
        },
        wanted={"x1": Sum(out, plus=x), "x2": Sum(mlp, plus=x1)},
        mistakes={
            "x1": [Mistake("residual t times", "x is in each rank's term", Same(heads @ w_out + case.t * x))]
        },
        traffic={
            "after_attention": [Collective("all_reduce", (case.rows, case.hidden))],
            "mlp": [Collective("all_reduce", (case.rows, case.hidden))],
        },
    )


PATIENT = Patient(
    exercise=Exercise(
        number=3,
        name="fused_residual",
        title="the second half of a block, with its residuals",
        level=2,
        chapter=5,
        sizes={"rows": one_to(2), "hidden": one_to(3), "width": per_rank(2), "inner": per_rank(2)},
        deal=deal,
        calls=[Call("after_attention", "x heads w_out group", "x1"), Call("mlp", "x1 up down group", "x2")],
        properties=[
            Equals("x1", 3, "x + heads · W_out on every rank"),
            Equals("x2", 2, "x₁ + relu(x₁ · up) · down on every rank"),
            Calls("after_attention"),
            Calls("mlp"),
        ],
        hints=(
            "x1 is the first to be wrong; x2 follows from it. On 4 ranks x1 is off by 3 times as much as on "
            "2. Compare what it is off by on 2 ranks with the arguments.",
            "It is off by (t − 1) · x. How often does x come into the sum?",
            "Every rank's matmul_add adds x, and the all-reduce adds up t of them. Add it after the sum, or "
            "on one rank only.",
        ),
    ),
    bug="residual-before-reduce",
    threads=("mirage-project/mirage#722",),
    story="Mirage compiles a model into one persistent kernel, and fuses residuals into products. Its "
    "mixture-of-experts task added the residual on every rank, before the all-reduce: twice on 2 GPUs. "
    "Attention's projection had been cured of it a year before (#371): rank 0 alone adds it. The cure of the "
    "experts then dropped terms of a model whose “residual” was itself a term of each rank (#753): know "
    "which of your tensors are whole, and which are terms of a sum.",
    fails="x1",
    kind="residual t times",
    shown={"rows": 2, "hidden": 3, "width": 4, "inner": 4},
)
