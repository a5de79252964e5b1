"""Patient 4: a collective stands in a branch that not every rank takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim.lab.bughunt.patient import Patient
from tpsim.lab.checking import (
    Call,
    Case,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Mistake,
    Same,
    Sum,
    split,
)


def sizes(draw: DrawFn, t: int) -> Mapping[str, Any]:
    """Draw what waits, and each rank's room, which is often the same."""
    small = st.integers(1, 2)
    return {
        "need": draw(st.integers(1, 3)),
        "free": tuple(draw(st.integers(1, 3)) for _ in range(t)),
        "rows": draw(small),
        "inner": t * draw(small),
        "hidden": draw(small),
    }


def deal(case: Case, draw: Draw) -> Deal:
    """Admit what fits on every rank; then y = x A."""
    x, a = draw(case.rows, case.inner), draw(case.inner, case.hidden)
    free = case.free[: case.t]
    terms = [xr @ ar for xr, ar in zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)]
    own = [np.array(min(case.need, count)) for count in free]
    return Deal(
        given={"need": Same(case.need), "free": Each(free), "x": Cut(x, 1), "a": Cut(a, 0)},
        wanted={"taken": Same(np.array(min(case.need, *free))), "y": Sum(terms)},
        mistakes={"taken": [Mistake("own room only", "ranks must take up the same requests", Each(own))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=4,
        name="serving_step",
        title="one step of a server, which hangs under load",
        level=2,
        chapter=2,
        sizes=sizes,
        deal=deal,
        calls=[Call("step", "need free x a group", "taken y")],
        properties=[
            Equals("taken", 2, "what fits on every rank"),
            Equals("y", 3, "x A on every rank"),
        ],
        hints=(
            "Read which call each rank stands in, and at which line. How did they come to be at different "
            "ones?",
            "A collective returns when all ranks have called it. Which condition decides whether it is "
            "called, and is it the same on every rank?",
            "`free` differs from rank to rank, so one rank returns early and the others go on to ask. Let "
            "every rank ask, always: one number costs next to nothing.",
        ),
    ),
    bug="branch-around-collective",
    threads=("NVIDIA/TensorRT-LLM#14020",),
    story="TensorRT-LLM's executor, serving with prefill and decoding apart, checked on cache transfers only "
    "if no request fitted; the check holds an all-gather of the tensor-parallel ranks. Under load their "
    "counts of free blocks drifted apart by one. In hundreds of iterations all agreed; in one, half of the "
    "ranks went to the all-gather and the others to attention's all-reduce, and a watchdog ended it after "
    "300 s. The cure: ranks agree on the condition first. Here you were told at once because virtual ranks "
    "compare what they call.",
    fails="taken",
    kind="ranks disagree",
    shown={"need": 2, "free": (2, 1, 2, 2), "rows": 2, "inner": 4, "hidden": 2},
)
