"""Exercise 4: the ring all-reduce, from sends and receives."""

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
    Same,
    Sends,
    Sum,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """Every rank has a vector; their sum, cut and whole."""
    x, own = [draw(case.count) for _ in range(case.t)], draw(case.count)
    ring = [Collective(operation, (case.count // case.t,)) for operation in ("send", "recv")] * (case.t - 1)
    chunks, chunks_of_sum = split(own, case.t, 0), split(np.sum(x, axis=0), case.t, 0)
    from_left = [[chunks[(r - step) % case.t] for step in range(case.t)] for r in range(case.t)]
    from_right = [[chunks[(r + step) % case.t] for step in range(case.t)] for r in range(case.t)]
    mine = [split(one, case.t, 0) for one in x]
    with_left = [mine[r][r] + mine[r - 1][r] for r in range(case.t)]
    with_right = [mine[r][r] + mine[(r + 1) % case.t][r] for r in range(case.t)]
    return Deal(
        given={"x": Each(x), "own": Cut(own, 0)},
        wanted={"part": Sum(x, axis=0), "whole": Same(own), "y": Sum(x)},
        mistakes={
            "part": [
                Mistake("neighbour's chunk", _NEXT, Each([*chunks_of_sum[1:], chunks_of_sum[0]])),
                Mistake("neighbour's chunk", _NEXT, Each([chunks_of_sum[-1], *chunks_of_sum[:-1]])),
                Mistake("one neighbour's term", _ONE, Each(with_left)),
                Mistake("one neighbour's term", _ONE, Each(with_right)),
            ],
            "whole": [
                Mistake("order of arrival", _ARRIVAL, Each([np.concatenate(one) for one in order]))
                for order in (from_left, from_right)
            ],
        },
        traffic={"reduce_scatter": ring, "all_gather": ring, "all_reduce": ring * 2},
    )


_NEXT = (
    "the sums are right and lie one rank off: the chunk that a rank receives last is the one it keeps, so "
    "begin one chunk further on"
)
_ONE = "only one neighbour's term is in it: send on the sum so far, not a chunk of your own x"
_ARRIVAL = (
    "the chunks are in the order in which they came, which is another one on each rank: put the chunk that "
    "began on rank r into the r-th place"
)

EXERCISE = Exercise(
    number=4,
    name="ring_all_reduce",
    title="the ring all-reduce, from sends and receives",
    level=2,
    chapter=2,
    sizes={"count": per_rank(2)},
    deal=deal,
    calls=[
        Call("reduce_scatter", takes="x group", gives="part"),
        Call("all_gather", takes="own group", gives="whole"),
        Call("all_reduce", takes="x group", gives="y"),
    ],
    properties=[
        Equals("part", 3, "rank r's chunk of the sum"),
        Equals("whole", 2, "every rank's chunk, in rank order"),
        Equals("y", 1, "the sum, whole on every rank"),
        Sends("reduce_scatter"),
        Sends("all_gather"),
        Sends("all_reduce", 2),
        Calls("reduce_scatter", 2),
        Calls("all_gather", 2),
        Calls("all_reduce", 2),
    ],
    hints=(
        "Write the step first, as a function of its own: send a chunk to the right neighbour, receive one "
        "from the left. If every rank begins with `send`, who receives? Then work out on paper, for t = 3, "
        "which chunk each rank must send first for its own to arrive last.",
        "One step is: handle = group.isend(chunk, (rank + 1) % t); arrived = group.recv(chunk, "
        "(rank - 1) % t); handle.wait(). In step s = 0 … t−2 of the reduce-scatter, rank r sends chunk "
        "(r − 1 − s) % t and adds what arrives to chunk (r − 2 − s) % t, which is chunk r in the end.",
        "In step s of the all-gather, rank r sends chunk (r − s) % t, and what arrives is chunk "
        "(r − 1 − s) % t. Work on copies: chunks = np.split(x.copy(), t). And all_reduce is "
        "all_gather(reduce_scatter(x, group), group).",
    ),
)
