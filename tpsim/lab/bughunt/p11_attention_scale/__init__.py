"""Patient 11: scores are divided by the root of the hidden size, and not of the head's."""

import numpy as np

from tpsim.lab.bughunt.patient import Patient
from tpsim.lab.checking import (
    Array,
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


def attend(q: Array, k: Array, v: Array, head: int, scale: float) -> Array:
    """Attend in each head apart: [rows, width]."""
    heads = []
    for qh, kh, vh in zip(*(split(m, m.shape[1] // head, 1) for m in (q, k, v)), strict=True):
        p = np.exp(qh @ kh.T * scale)
        heads.append(p / p.sum(axis=1, keepdims=True) @ vh)
    return np.concatenate(heads, axis=1)


def deal(case: Case, draw: Draw) -> Deal:
    """Attend with heads that are cut."""
    width = case.heads * case.head
    x, w_out = draw.normal(case.rows, case.hidden), draw.normal(width, case.hidden)
    weights = {name: draw.normal(case.hidden, width) for name in ("w_q", "w_k", "w_v")}
    q, k, v = (x @ weight for weight in weights.values())
    heads = attend(q, k, v, case.head, case.head**-0.5)
    terms = [o @ w for o, w in zip(split(heads, case.t, 1), split(w_out, case.t, 0), strict=True)]
    by_hidden = attend(q, k, v, case.head, case.hidden**-0.5) @ w_out
    return Deal(
        given={
            "x": Same(x),
            **{name: Cut(weight, 1) for name, weight in weights.items()},
            "w_out": Cut(w_out, 0),
            "head": Same(case.head),
        },
        wanted={"y": Sum(terms)},
        mistakes={"y": [Mistake("scaled by hidden", "scores are divided by √hidden", Same(by_hidden))]},
        traffic={"attention": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=11,
        name="attention_scale",
        title="attention whose ranks agree",
        level=3,
        chapter=4,
        sizes={"rows": one_to(3, least=2), "hidden": one_to(4), "heads": per_rank(2), "head": one_to(3)},
        deal=deal,
        calls=[Call("attention", "x w_q w_k w_v w_out head group", "y")],
        properties=[Equals("y", 4, "attention by all heads, on every rank"), Calls("attention")],
        hints=(
            "It is wrong on one rank too, and by the same numbers on any number of ranks. So it is not in "
            "what is cut or summed.",
            "Go through the formula of the docstring, symbol by symbol: what is d there, and what is d in "
            "the code?",
            "x.shape[1] is the width of the model. Divide by head**0.5.",
        ),
    ),
    bug="scaled-by-hidden",
    threads=(),
    story="From a NumPy codebase that teaches tensor parallelism. Its tests compared t ranks with one rank "
    "of the same code, and all passed, since every rank makes the same mistake. “As good as on one device” "
    "is not “right”: a check needs a reference that was written apart from what it checks. That is why "
    "tpsim has tpsim/reference/, which shares no layer with tpsim/nn/.",
    fails="y",
    kind="scaled by hidden",
    shown={"rows": 2, "hidden": 3, "heads": 4, "head": 2},
)
