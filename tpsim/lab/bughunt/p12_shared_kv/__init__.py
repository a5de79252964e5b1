"""Patient 12: the sum goes into a contiguous copy, which is dropped."""

import numpy as np

from tpsim.lab.bughunt.patient import Patient
from tpsim.lab.checking import (
    Array,
    Call,
    Case,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Mistake,
    Same,
    one_to,
)


def deal(case: Case, draw: Draw) -> Deal:
    """dW = Xᵀ dQKV and db, where K and V are shared by all ranks."""
    x, shared = draw(case.rows, case.hidden), 2 * case.head
    dqkv = [draw(case.rows, case.queries + shared) for _ in range(case.t)]
    dw, db = [x.T @ mine for mine in dqkv], [mine.sum(axis=0) for mine in dqkv]

    def summed(grads: list[Array]) -> Each:
        total = np.sum([grad[..., -shared:] for grad in grads], axis=0)
        return Each([np.concatenate([grad[..., :-shared], total], axis=-1) for grad in grads])

    why = "the columns of K and V are this rank's alone"
    return Deal(
        given={"x": Same(x), "dqkv": Each(dqkv), "head": Same(case.head)},
        wanted={"dw": summed(dw), "db": summed(db)},
        mistakes={
            "dw": [Mistake("K and V not summed", why, Each(dw))],
            "db": [Mistake("K and V not summed", why, Each(db))],
        },
    )


PATIENT = Patient(
    exercise=Exercise(
        number=12,
        name="shared_kv",
        title="the fused QKV gradient, with shared keys and values",
        level=4,
        chapter=4,
        sizes={"rows": one_to(2), "hidden": one_to(3), "queries": one_to(2), "head": one_to(2)},
        deal=deal,
        calls=[Call("backward", "x dqkv head group", "dw db")],
        properties=[
            Equals("dw", 4, "Xᵀ dQKV, with K and V summed over the ranks"),
            Equals("db", 2, "the bias's gradient, with K and V summed over the ranks"),
        ],
        hints=(
            "dw and db go through the same function, and only db comes out right. What is different about "
            "them as NumPy arrays? (`.flags`, `.strides`)",
            "np.ascontiguousarray returns what it is given if that is contiguous, and a copy if not. Which "
            "memory does the sum go to in either case?",
            "Columns of a matrix are not contiguous, so `buffer` is a copy, and nobody looks at it again. "
            "Write it back: grad[...] = group.all_reduce(buffer).",
        ),
    ),
    bug="reduced-copy-dropped",
    threads=("NVIDIA/Megatron-LM#5337",),
    story="Megatron Core's _reduce called all_reduce(input_.contiguous()) and returned input_. If the input "
    "is contiguous, that is the same memory, and all is well; if not, the sum is in a copy that is gone. No "
    "path called it with such an input yet when it was found. The trace can't show it either: what was sent "
    "is right, and what was done with it is not. tpsim's Group returns a fresh array unless it is given "
    "`out=`, so there is a result to be missed.",
    fails="dw",
    kind="K and V not summed",
    shown={"rows": 2, "hidden": 2, "queries": 2, "head": 1},
)
