"""Exercise 5: the column-parallel linear as a layer: forward, what it keeps, and all its gradients."""

import numpy as np

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
    Keeps,
    Mistake,
    Same,
    Sends,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = X A + b and its gradients, A and b cut by columns; sums over batch and sequence written out."""
    x = draw(case.batch, case.seq, case.hidden)
    a, b = draw(case.hidden, case.out), draw(case.out)
    dy = draw(case.batch, case.seq, case.out)
    shares = [
        np.einsum("bso,ho->bsh", dyi, ai)
        for dyi, ai in zip(split(dy, case.t, 2), split(a, case.t, 1), strict=True)
    ]
    y = np.einsum("bsh,ho->bso", x, a)
    da, db = np.einsum("bsh,bso->ho", x, dy), np.einsum("bso->o", dy)
    return Deal(
        given={"x": Same(x), "a": Cut(a, 1), "b": Cut(b, 0), "dy": Cut(dy, 2)},
        wanted={"y": Cut(y + b, 2), "dx": Sum(shares), "da": Cut(da, 1), "db": Cut(db, 0)},
        mistakes={
            "y": [
                Mistake("gathered", _GATHERED, Same(y + b)),
                Mistake("no bias", "b is missing", Cut(y, 2)),
                Mistake("b / t", _SHARED, Cut(y + b / case.t, 2)),
            ],
            "da": [Mistake("batch by batch", _BATCHES, Cut(np.einsum("bsh,bso->bho", x, dy), 2))],
            "db": [
                Mistake("averaged over rows", _ROWS, Cut(db / (case.batch * case.seq), 0)),
                Mistake("batch by batch", _BATCHES, Cut(np.sum(dy, axis=1), 1)),
                Mistake("place by place", _PLACES, Cut(np.sum(dy, axis=0), 1)),
            ],
        },
        traffic={"backward": [Collective("all_reduce", (case.batch, case.seq, case.hidden))]},
    )


_GATHERED = "this is the whole Y: each rank goes on with its own columns, and nothing is gathered"
_SHARED = "b is divided by t: a column of Y is computed on one rank alone, so its b counts fully"
_BATCHES = (
    "one gradient for each sequence of the batch: A and b are used by all of them, so sum over the batch"
)
_PLACES = "one gradient for each place in the sequence: b is used at all of them, so sum over seq"
_ROWS = "it is the mean over batch and sequence: every use of b adds to its gradient, so sum"

EXERCISE = Exercise(
    number=5,
    name="column_linear",
    title="the column-parallel linear, whole: forward, what is kept, three gradients",
    level=2,
    chapter=3,
    sizes={"batch": one_to(3), "seq": one_to(3), "hidden": one_to(3), "out": per_rank(2)},
    deal=deal,
    calls=[
        Call("forward", takes="x a b group", gives="y saved"),
        Call("backward", takes="dy saved a group", gives="dx da db"),
    ],
    properties=[
        Equals("y", 2, "this rank's columns of X A + b"),
        Equals("dx", 2, "dY Aᵀ, whole on every rank"),
        Equals("da", 2, "this rank's columns of Xᵀ dY, summed over the batch"),
        Equals("db", 2, "this rank's entries of Σ dY, summed over batch and sequence"),
        Calls("forward"),
        Calls("backward"),
        Sends("backward"),
        Keeps("saved", lambda case: case.batch * case.seq * case.hidden * case.itemsize),
    ],
    hints=(
        "dX = dY Aᵀ as in exercise 3. For dA, batch and seq are both just rows: dA sums over all of them. "
        "Which of X, A, Y does dA need that backward is not given?",
        "dA = Xᵀ dY with x.reshape(-1, hidden) and dy.reshape(-1, out/t), so forward keeps x and nothing "
        "else. db sums dy over batch and seq; a column of dY is on one rank, with all its rows.",
        "forward: return x @ a + b, x. backward: dx = group.all_reduce(dy @ a.T); da = rows_of_x.T @ "
        "rows_of_dy; db = dy.sum(axis=(0, 1)), both without communication.",
    ),
)
