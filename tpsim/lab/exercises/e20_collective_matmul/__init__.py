"""Exercise 20: a collective matmul, whose all-gather goes around the ring behind pieces of the product."""

import numpy as np

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
    Sends,
    Takes,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = X A: X is cut by rows, A by columns."""
    t, x, a = case.t, draw(case.rows, case.hidden), draw(case.hidden, case.out)
    chunk, own = (case.rows // t, case.hidden), case.out // t
    arrived, turned = [], []
    for rank, columns in enumerate(split(a, t, 1)):
        blocks = split(x @ columns, t, 0)
        arrived.append(np.vstack([blocks[(rank - step) % t] for step in range(t)]))
        turned.append(np.vstack([blocks[(2 * rank - place) % t] for place in range(t)]))
    return Deal(
        given={"x": Cut(x, 0), "a": Cut(a, 1)},
        wanted={"y": Cut(x @ a, 1)},
        mistakes={
            "y": [
                Mistake("in order of arrival", _ARRIVAL, Each(arrived)),
                Mistake("wrong way around", _TURNED, Each(turned)),
            ]
        },
        traffic={
            "gathered_product": [
                Collective(operation, chunk) for _ in range(t - 1) for operation in ("send", "recv")
            ]
        },
        products={"gathered_product": [(case.rows // t, case.hidden, own)] * t},
    )


_ARRIVAL = (
    "its blocks of rows lie in the order in which they came, own first: the block that came from rank s "
    "belongs at s · rows/t"
)
_TURNED = "its blocks of rows are in reverse order: with chunks from the left, step k brings rank − k's"

EXERCISE = Exercise(
    number=20,
    name="collective_matmul",
    title="hide an all-gather behind a matmul: the collective matmul",
    level=5,
    chapter=9,
    sizes={"rows": per_rank(3), "hidden": one_to(3), "out": per_rank(3)},
    deal=deal,
    calls=[Call("gathered_product", takes="x a group matmul", gives="y")],
    properties=[
        Equals("y", 4, "this rank's columns of X A, for all rows"),
        Calls("gathered_product"),
        Sends("gathered_product", 2),
        Takes("gathered_product", 0.85, points=5, scale=2048),
    ],
    hints=(
        "What can a rank multiply before anything has come? And when the first chunk has come from its "
        "neighbour, what can it multiply, and what can it pass on?",
        "t steps. In each: begin to receive the next chunk from the left and to send the one at hand to the "
        "right, multiply the one at hand, and only then wait for both. In the last step nothing is sent. "
        "Step k's chunk is that of rank (rank − k) mod t.",
        "for k in range(t): if k < t − 1: coming, going = group.irecv(x, left), group.isend(x, right); "
        "blocks[(rank − k) % t] = matmul(x, a); if k < t − 1: going.wait(); x = coming.wait(). At the end, "
        "np.concatenate(blocks).",
    ),
)
