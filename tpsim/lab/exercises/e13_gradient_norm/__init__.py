"""Exercise 13: the global gradient norm, which counts replicated parameters once, and clipping by it."""

import numpy as np

from tpsim.lab.checking import (
    Array,
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
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """Take the norm of the whole dW and the one dγ, and scale both by min(1, limit / (norm + 1e-6))."""
    dw, dgamma = draw(case.hidden, case.out), draw(case.hidden)
    own, replicated = [_squares(part) for part in split(dw, case.t, 1)], _squares(dgamma)
    sharded = sum(own)
    norm = np.sqrt(sharded + replicated)
    factor = case.limit / (norm + 1e-6)
    least = min(1.0, factor)
    return Deal(
        given={
            "dw": Cut(dw, 1),
            "dgamma": Same(dgamma),
            "right_norm": Same(norm),
            "limit": Same(case.limit),
        },
        wanted={"norm": Same(norm), "clipped_w": Cut(least * dw, 1), "clipped_gamma": Same(least * dgamma)},
        mistakes={
            "norm": [
                Mistake("replica t times", _T_TIMES, Same(np.sqrt(sharded + case.t * replicated))),
                Mistake("own rank only", _OWN, Each([np.sqrt(mine + replicated) for mine in own])),
                Mistake("norms added", _ADDED, Same(sum(np.sqrt(mine + replicated) for mine in own))),
                Mistake(
                    "norms added", _ADDED, Same(sum(np.sqrt(mine) for mine in own) + np.sqrt(replicated))
                ),
                Mistake("no root", "it is the sum of squares: its root is missing", Same(norm**2)),
                Mistake(
                    "replica missing", "dγ's squares belong to the norm too, once", Same(np.sqrt(sharded))
                ),
            ],
            "clipped_w": [Mistake("made larger", _LARGER, Cut(factor * dw, 1))],
            "clipped_gamma": [Mistake("made larger", _LARGER, Same(factor * dgamma))],
        },
        traffic={"global_norm": [Collective("all_reduce", (1,))]},
    )


def _squares(gradient: Array) -> Array:
    """Return the sum of squares, [1]."""
    return np.sum(np.square(gradient), keepdims=True).reshape(1)


_T_TIMES = (
    "the squares of dγ are in the sum t times, once for each rank that has a copy: let one rank count them, "
    "or add them after the sum"
)
_OWN = (
    "each rank has the norm of what it holds: the squares of dW must be summed over the ranks, or ranks clip "
    "by different factors, and the copies of γ drift apart"
)
_ADDED = "norms do not add up, squares do: sum the squares over the ranks, and then take the root"
_LARGER = "a gradient below the limit was scaled up to it: the factor is at most 1"

EXERCISE = Exercise(
    number=13,
    name="gradient_norm",
    title="clip by the global gradient norm: who counts a replica?",
    level=3,
    chapter=8,
    sizes={"hidden": one_to(3), "out": per_rank(2), "limit": [1, 100]},
    deal=deal,
    calls=[
        Call("global_norm", takes="dw dgamma group", gives="norm"),
        Call("clip", takes="dw dgamma right_norm limit", gives="clipped_w clipped_gamma"),
    ],
    properties=[
        Equals("norm", 3, "√(Σ dW² + Σ dγ²) of the whole model, on every rank"),
        Equals("clipped_w", 2, "this rank's dW times min(1, limit / (norm + 1e-6))"),
        Equals("clipped_gamma", 1, "dγ times min(1, limit / (norm + 1e-6))"),
        Calls("global_norm"),
        Sends("global_norm"),
    ],
    hints=(
        "What can be summed over ranks: norms, or squares? And if every rank brings the squares of all that "
        "it holds, how often is dγ in the sum?",
        "Sum the squares of dW over ranks with one all-reduce of one number. Those of dγ enter once: with "
        "rank 0's, or after the all-reduce, since every rank knows them.",
        "squares = np.array([np.square(dw).sum()], dw.dtype); norm = np.sqrt(group.all_reduce(squares) + "
        "np.square(dgamma).sum()). factor = np.minimum(1, limit / (norm + 1e-6)), for both gradients.",
    ),
)
