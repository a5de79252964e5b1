"""Patient 1: the row bias is added before the all-reduce."""

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
    """y = relu(x A + b) C + c, by columns and by rows."""
    x, a, b = draw(case.rows, case.hidden), draw(case.hidden, case.inner), draw(case.inner)
    c_weight, c_bias = draw(case.inner, case.hidden), draw(case.hidden)
    h = np.maximum(x @ a + b, 0)
    terms = [hr @ cr for hr, cr in zip(split(h, case.t, 1), split(c_weight, case.t, 0), strict=True)]
    return Deal(
        given={
            "x": Same(x),
            "a": Cut(a, 1),
            "b": Cut(b, 0),
            "c_weight": Cut(c_weight, 0),
            "c_bias": Same(c_bias),
        },
        wanted={"y": Sum(terms, plus=c_bias)},
        mistakes={
            "y": [
                Mistake(
                    "bias t times", "c_bias is in each rank's term", Same(h @ c_weight + case.t * c_bias)
                ),
                Mistake("no bias", "c_bias is missing: add it once", Same(h @ c_weight)),
            ]
        },
        traffic={"mlp": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=1,
        name="served_mlp",
        title="the MLP of a server for text",
        level=1,
        chapter=3,
        sizes={"rows": one_to(2), "hidden": one_to(3), "inner": per_rank(2)},
        deal=deal,
        calls=[Call("mlp", "x a b c_weight c_bias group", "y")],
        properties=[Equals("y", 3, "relu(x A + b) C + c on every rank"), Calls("mlp")],
        hints=(
            "What y is off by is the same in every row, whatever x is. Which of the arguments has no rows?",
            "On 4 ranks it is off by 3 times as much as on 2: by (t − 1) times something. What is in the "
            "sum t times, and should be in it once?",
            "`linear` adds the bias on each rank, and the all-reduce adds up t of them. Add c_bias after it.",
        ),
    ),
    bug="row-bias-on-every-rank",
    threads=("huggingface/text-generation-inference#1036",),
    story="Text-generation-inference's TensorParallelRowLinear gave the whole bias to the linear of every "
    "rank, and all-reduced the result: “multi-added by tp-degree”, in the thread's words. Models without "
    "such biases, Llama among them, show nothing. slapo (#10) and Paddle (#35186) had it too: a fused "
    "linear takes a bias, so it gets one.",
    fails="y",
    kind="bias t times",
    shown={"rows": 2, "hidden": 3, "inner": 4},
)
