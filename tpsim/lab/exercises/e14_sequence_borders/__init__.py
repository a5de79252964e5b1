"""Exercise 14: two linears under sequence parallelism: f and g become all-gather and reduce-scatter."""

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
    Keeps,
    Mistake,
    Sends,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """z = (x A) C, with A cut by columns, C by rows, and x, z and their gradients by the sequence."""
    t, shape = case.t, (case.batch, case.seq, case.hidden)
    x, dz = draw(*shape), draw(*shape)
    a, c = draw(case.hidden, case.ffn), draw(case.ffn, case.hidden)
    y, dy = x @ a, dz @ c.T

    x_here, dz_here = split(x, t, 1), split(dz, t, 1)
    ys, dys = split(y, t, 2), split(dy, t, 2)
    terms = [mine @ rows for mine, rows in zip(ys, split(c, t, 0), strict=True)]
    shares = [mine @ columns.T for mine, columns in zip(dys, split(a, t, 1), strict=True)]
    da_here = [_over_tokens(x_here[r], split(dys[r], t, 1)[r]) for r in range(t)]
    dc_here = [_over_tokens(split(ys[r], t, 1)[r], dz_here[r]) for r in range(t)]

    gathered = Collective("all_gather", shape)
    scattered = Collective("reduce_scatter", shape)
    return Deal(
        given={"x": Cut(x, 1), "a": Cut(a, 1), "c": Cut(c, 0), "dz": Cut(dz, 1)},
        wanted={
            "z": Sum(terms, axis=1),
            "dx": Sum(shares, axis=1),
            "da": Cut(_over_tokens(x, dy), 1),
            "dc": Cut(_over_tokens(y, dz), 0),
        },
        mistakes={
            "da": [Mistake("own tokens only", _OWN_TOKENS, Each(da_here))],
            "dc": [Mistake("own tokens only", _OWN_TOKENS, Each(dc_here))],
        },
        traffic={"forward": [gathered, scattered], "backward": [gathered, gathered, scattered]},
    )


def _over_tokens(x: Array, dy: Array) -> Array:
    """Return xᵀ dy, summed over batch and sequence."""
    gradient: Array = np.einsum("bsi,bso->io", x, dy)
    return gradient


_OWN_TOKENS = (
    "a weight's gradient sums over all tokens, and this is the part of those that lie on this rank: gather "
    "the sequence first"
)


def most_kept(case: Case) -> int:
    """Return the bytes of this rank's x [b, s/t, h] and y [b, s, ffn/t]."""
    elements = case.batch * case.seq * (case.hidden + case.ffn) // case.t
    return int(elements * case.itemsize)


EXERCISE = Exercise(
    number=14,
    name="sequence_borders",
    title="sequence parallelism: the same bytes, less memory",
    level=4,
    chapter=7,
    sizes={"batch": one_to(2), "seq": per_rank(2), "hidden": one_to(2), "ffn": per_rank(2)},
    deal=deal,
    calls=[
        Call("forward", takes="x a c group", gives="z saved"),
        Call("backward", takes="dz a c saved group", gives="dx da dc"),
    ],
    properties=[
        Equals("z", 3, "this rank's part of X A C along the sequence"),
        Equals("dx", 3, "this rank's part of dZ Cᵀ Aᵀ along the sequence"),
        Equals("da", 1, "this rank's columns of Xᵀ dY, over all tokens"),
        Equals("dc", 1, "this rank's rows of Yᵀ dZ, over all tokens"),
        Keeps("saved", most_kept, 2),
        Calls("forward"),
        Calls("backward"),
        Sends("forward"),
        Sends("backward"),
    ],
    hints=(
        "f was: nothing in forward, all-reduce in backward. Now X arrives cut, and all of it is needed; and "
        "dX leaves cut, and is a sum. Which collective has each as its result? g is the other way round.",
        "f: group.all_gather(x, axis=1), and in backward group.reduce_scatter(…, axis=1). g: "
        "group.reduce_scatter(…, axis=1), and in backward group.all_gather(dz, axis=1). For dA all of X is "
        "needed, but not kept: gather it again.",
        "y = group.all_gather(x, axis=1) @ a; z = group.reduce_scatter(y @ c, axis=1); saved = (x, y). "
        'Backward, with dz gathered: dy = dz @ c.T; da = np.einsum("bsi,bso->io", all of x, dy), and dc '
        "likewise from y and dz; dx = group.reduce_scatter(dy @ a.T, axis=1).",
    ),
)
