"""Exercise 7: the backward of Megatron's MLP, whose one all-reduce is f's."""

from math import erf, exp, pi, sqrt

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
    Sum,
    one_to,
    per_rank,
    split,
)


def normal_share(x: Array) -> Array:
    """Φ(x)."""
    return np.array([(1 + erf(v / sqrt(2))) / 2 for v in x.ravel()]).reshape(x.shape)


def slope(x: Array) -> Array:
    """Φ(x) + x φ(x), GELU's derivative."""
    density = np.array([exp(-v * v / 2) / sqrt(2 * pi) for v in x.ravel()]).reshape(x.shape)
    derivative: Array = normal_share(x) + x * density
    return derivative


def deal(case: Case, draw: Draw) -> Deal:
    """Y = GELU(X A + bias_a) B + bias_b, backward: A by columns, B by rows, dY whole."""
    x, dy = draw.normal(case.rows, case.hidden), draw.normal(case.rows, case.hidden)
    a, b = draw.normal(case.hidden, case.ffn), draw.normal(case.ffn, case.hidden)
    h = x @ a + draw.normal(case.ffn)
    u, du = h * normal_share(h), dy @ b.T
    dh = du * slope(h)
    shares = [dhi @ ai.T for dhi, ai in zip(split(dh, case.t, 1), split(a, case.t, 1), strict=True)]
    wrong_slopes = {"no slope": du, "GELU for its slope": du * u, "slope of GELU(h)": du * slope(u)}
    return Deal(
        given={"dy": Same(dy), "x": Same(x), "h": Cut(h, 1), "a": Cut(a, 1), "b": Cut(b, 0)},
        wanted={
            "dx": Sum(shares),
            "da": Cut(x.T @ dh, 1),
            "dbias_a": Cut(np.sum(dh, axis=0), 0),
            "db": Cut(u.T @ dy, 0),
            "dbias_b": Same(np.sum(dy, axis=0)),
        },
        mistakes={
            "db": [
                Mistake("dY summed", _DY, Cut(case.t * (u.T @ dy), 0)),
                Mistake("H, not GELU(H)", _BEFORE, Cut(h.T @ dy, 0)),
            ],
            "da": [Mistake(kind, _SLOPE, Cut(x.T @ wrong, 1)) for kind, wrong in wrong_slopes.items()],
            "dbias_a": [Mistake("not summed over rows", _ROWS, Each(split(dh, case.t, 1)))],
        },
        traffic={"backward": [Collective("all_reduce", (case.rows, case.hidden))]},
    )


_DY = (
    "it is t times too large: dY is summed over the ranks first. g all-reduces in forward, so Y is the same "
    "on every rank, and so is dY: in backward g does nothing"
)
_BEFORE = "B multiplies GELU(H), so dB = GELU(H)ᵀ dY, and not Hᵀ dY"
_SLOPE = "on the way back through GELU, multiply by its slope at H: gelu_grad(h, dy @ b.T)"
_ROWS = "every row uses bias_a, so its gradient is a sum over rows"

EXERCISE = Exercise(
    number=7,
    name="mlp_backward",
    title="the MLP's backward: where is its one all-reduce?",
    level=3,
    chapter=3,
    sizes={"rows": one_to(3), "hidden": one_to(3), "ffn": per_rank(2)},
    deal=deal,
    calls=[Call("backward", takes="dy x h a b group", gives="dx da dbias_a db dbias_b")],
    properties=[
        Equals("db", 2, "this rank's rows of GELU(H)ᵀ dY"),
        Equals("da", 2, "this rank's columns of Xᵀ dH"),
        Equals("dx", 3, "dH Aᵀ, whole on every rank"),
        Equals("dbias_b", 1, "the sum of dY's rows"),
        Equals("dbias_a", 1, "this rank's entries of the sum of dH's rows"),
        Calls("backward", 2),
        Sends("backward"),
    ],
    hints=(
        "Write the backward of one device first, from right to left: db and dbias_b from dY, then "
        "du = dY Bᵀ, dh through GELU, da and dbias_a from dh, and dx = dh Aᵀ. Which of these sums over all "
        "of ffn?",
        "Only dX = dH Aᵀ sums over ffn, of which a rank has a part: it is a sum of t terms, one a rank. "
        "Everything else is a rank's own part, made of its own parts, or whole already (dbias_b).",
        "u, dh = gelu(h), gelu_grad(h, dy @ b.T); dx = group.all_reduce(dh @ a.T); da = x.T @ dh; "
        "dbias_a = dh.sum(axis=0); db = u.T @ dy; dbias_b = dy.sum(axis=0).",
    ),
    allowed=["tpsim.functional.gelu", "tpsim.functional.gelu_grad"],
)
