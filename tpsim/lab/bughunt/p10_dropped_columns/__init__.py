"""Patient 10: all ranks drop the same entries of their columns."""

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


def deal(case: Case, draw: Draw) -> Deal:
    """y = dropout(h) A, by rows, with one device's mask."""
    h, a = draw(case.rows, case.inner), draw(case.inner, case.hidden)
    dy, seed = draw(case.rows, case.hidden), int(draw.integers(1, 999, 1)[0])

    def factors(columns: int) -> Array:
        kept = np.random.default_rng(seed).random((case.rows, columns)) >= case.rate
        mask: Array = kept / (1 - case.rate)
        return mask

    mask, shared = factors(case.inner), np.tile(factors(case.inner // case.t), case.t)
    terms = [hr @ ar for hr, ar in zip(split(h * mask, case.t, 1), split(a, case.t, 0), strict=True)]
    why = "every rank drops the same entries of its columns"
    return Deal(
        given={"h": Cut(h, 1), "a": Cut(a, 0), "dy": Same(dy), "seed": Same(seed), "rate": Same(case.rate)},
        wanted={"y": Sum(terms), "dh": Cut((dy @ a.T) * mask, 1)},
        mistakes={
            "y": [Mistake("one mask for all", why, Same((h * shared) @ a))],
            "dh": [Mistake("one mask for all", why, Cut((dy @ a.T) * shared, 1))],
        },
        traffic={"forward": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=10,
        name="dropped_columns",
        title="dropout inside the region",
        level=3,
        chapter=8,
        sizes={"rows": one_to(3), "inner": per_rank(3), "hidden": one_to(2), "rate": [0.5, 0.25]},
        deal=deal,
        calls=[Call("forward", "h a seed rate group", "y"), Call("backward", "dy a seed rate group", "dh")],
        properties=[
            Equals("y", 3, "what one device computes, on every rank"),
            Equals("dh", 2, "this rank's columns of h's gradient"),
            Calls("forward"),
            Calls("backward"),
        ],
        hints=(
            "Let each rank print its `kept`. (What a file prints is shown when it is run.)",
            "All ranks draw the same mask for their columns, since nothing in the draw knows the rank. But "
            "a seed of its own for each rank would not give one device's mask either.",
            "Draw one device's mask, [rows, n * group.size], on every rank, and take columns rank · n to "
            "(rank + 1) · n of it.",
        ),
    ),
    bug="one-mask-for-all-shards",
    threads=("tenstorrent/tt-metal#55947",),
    story="TTML's dropout can share a seed among all devices of a mesh, or add the device's number to it. "
    "Neither fits data and tensor parallelism together. Its Llama attention and MLP shared the seed, so "
    "equal local shapes were dropped alike on all four devices of a 2 × 2 mesh; with a seed for each "
    "device, what is replicated would no longer agree. It needs a rule for each axis of the mesh. What it "
    "cost in quality nobody has measured.",
    fails="y",
    kind="one mask for all",
    shown={"rows": 2, "inner": 8, "hidden": 2, "rate": 0.5},
)
