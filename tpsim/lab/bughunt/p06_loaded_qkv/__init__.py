"""Patient 6: fused QKV is cut evenly, as if it were one piece."""

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


def attend(q: Array, k: Array, v: Array, head: int) -> Array:
    """Attend in each head apart: [rows, width]."""
    heads = []
    for qh, kh, vh in zip(*(split(m, m.shape[1] // head, 1) for m in (q, k, v)), strict=True):
        p = np.exp(qh @ kh.T / np.sqrt(head))
        heads.append(p / p.sum(axis=1, keepdims=True) @ vh)
    return np.concatenate(heads, axis=1)


def deal(case: Case, draw: Draw) -> Deal:
    """Attend with heads that are cut, from one fused weight."""
    width = case.heads * case.head
    x = draw.normal(case.rows, case.hidden)
    w_qkv, w_out = draw.normal(case.hidden, 3 * width), draw.normal(width, case.hidden)
    q, k, v = split(x @ w_qkv, 3, 1)
    rows_out = split(w_out, case.t, 0)
    heads = split(attend(q, k, v, case.head), case.t, 1)
    thirds = [split(part, 3, 1) for part in split(x @ w_qkv, case.t, 1)]
    evenly = [attend(first, second, third, case.head) for first, second, third in thirds]
    cut_evenly = sum((o @ w for o, w in zip(evenly, rows_out, strict=True)), np.zeros_like(x))
    return Deal(
        given={"x": Same(x), "w_qkv": Same(w_qkv), "w_out": Cut(w_out, 0), "head": Same(case.head)},
        wanted={"y": Sum([o @ w for o, w in zip(heads, rows_out, strict=True)])},
        mistakes={"y": [Mistake("cut evenly", "a rank's columns are not its Q, K and V", Same(cut_evenly))]},
        traffic={"attention": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=6,
        name="loaded_qkv",
        title="attention, loaded from a checkpoint",
        level=2,
        chapter=4,
        sizes={
            "rows": one_to(3, least=2),
            "hidden": one_to(3, least=2),
            "heads": per_rank(2),
            "head": one_to(2),
        },
        deal=deal,
        calls=[Call("attention", "x w_qkv w_out head group", "y")],
        properties=[Equals("y", 4, "attention by all heads, on every rank"), Calls("attention")],
        hints=(
            "No factor explains it: other numbers were multiplied. Write down, for t = 2 and 2 heads, the "
            "columns of w_qkv: q₀ q₁ k₀ k₁ v₀ v₁. Which of them must rank 0 have?",
            "Print which columns rank 0 takes: the first half of all. What does np.split(qkv, 3, axis=1) "
            "then call q, k and v?",
            "Cut Q, K and V apart, take this rank's part of each, and join these three parts.",
        ),
    ),
    bug="qkv-cut-evenly",
    threads=("hpcaitech/ColossalAI#817", "awslabs/slapo#46"),
    story="ColossalAI cut the fused weight of 3 · width columns like any column-parallel one. A model that "
    "is trained and used at one t never notices: its rank 0 has some columns that it calls Q, K and V, and "
    "learns them so. But a checkpoint that is read at another t then means something else. Fused gate-up "
    "weights have the same trap (Megatron-LM #360 and #520). A layout that is interleaved by rank avoids "
    "it, and binds the file to one t.",
    fails="y",
    kind="cut evenly",
    shown={"rows": 2, "hidden": 3, "heads": 4, "head": 2},
)
