"""Exercise 17: selective recompute, which keeps q, k and v, and runs the attention core again in backward."""

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


def core(q: Array, k: Array, v: Array, *, causal: bool = True) -> tuple[Array, Array]:
    """Return the probabilities [heads, seq, seq], and the heads side by side [seq, heads · size]."""
    heads, seq, size = q.shape
    e = np.exp(np.einsum("hid,hjd->hij", q, k) / size**0.5)
    if causal:
        e = e * np.tri(seq)
    p: Array = e / e.sum(axis=2, keepdims=True)
    return p, np.einsum("hij,hjd->ihd", p, v).reshape(seq, heads * size)


def core_backward(
    q: Array, k: Array, v: Array, dcore: Array, *, causal: bool = True
) -> tuple[Array, Array, Array]:
    """Return dq, dk and dv, from the Jacobian of each row's softmax."""
    heads, seq, size = q.shape
    p, _ = core(q, k, v, causal=causal)
    dout = dcore.reshape(seq, heads, size)
    jacobian = np.einsum("hij,jk->hijk", p, np.eye(seq)) - np.einsum("hij,hik->hijk", p, p)
    ds = np.einsum("hijk,ihd,hkd->hij", jacobian, dout, v) / size**0.5
    return (
        np.einsum("hij,hjd->hid", ds, k),
        np.einsum("hij,hid->hjd", ds, q),
        np.einsum("hij,ihd->hjd", p, dout),
    )


def turned(part: Array, heads: int) -> Array:
    """Return one rank's [seq, heads · size], read as if it were [heads, seq · size]."""
    seq = part.shape[0]
    return part.reshape(heads, seq, -1).transpose(1, 0, 2).reshape(seq, -1)


def deal(case: Case, draw: Draw) -> Deal:
    """Causal attention and its row-parallel projection: heads and W's rows are cut."""
    hidden = case.heads * case.size
    q, k, v = (draw.normal(case.heads, case.seq, case.size) for _ in range(3))
    w, dy = draw.normal(hidden, case.out), draw.normal(case.seq, case.out)
    _, joined = core(q, k, v)
    wanted = core_backward(q, k, v, dy @ w.T)
    mixed = np.hstack([turned(part, case.heads // case.t) for part in split(dy @ w.T, case.t, 1)])
    mixed_up = core_backward(q, k, v, mixed)
    unmasked = core_backward(q, k, v, dy @ w.T, causal=False)
    unscaled = core_backward(q * case.size**0.5, k, v, dy @ w.T)
    parts = zip(split(joined, case.t, 1), split(w, case.t, 0), strict=True)
    names = ("dq", "dk", "dv")
    return Deal(
        given={"q": Cut(q, 0), "k": Cut(k, 0), "v": Cut(v, 0), "w": Cut(w, 0), "dy": Same(dy)},
        wanted={
            "y": Sum([one @ wi for one, wi in parts]),
            **{name: Cut(grad, 0) for name, grad in zip(names, wanted, strict=True)},
            "dw": Cut(joined.T @ dy, 0),
        },
        mistakes={
            "y": [
                Mistake("no mask", _SEES_ALL, Same(core(q, k, v, causal=False)[1] @ w)),
                Mistake("no scale", _STEEP, Same(core(q * case.size**0.5, k, v)[1] @ w)),
            ],
            **{
                name: [
                    Mistake("no mask", _UNMASKED, Cut(free, 0)),
                    Mistake("no scale", _UNSCALED, Cut(steep, 0)),
                    Mistake("no scale in backward", _CHAIN, Cut(grad * case.size**0.5, 0)),
                    Mistake("heads mixed up", _MIXED, Cut(other, 0)),
                ]
                for name, grad, free, steep, other in zip(
                    names, wanted, unmasked, unscaled, mixed_up, strict=True
                )
            },
        },
        traffic={"forward": [Collective("all_reduce", (case.seq, case.out))]},
    )


_SEES_ALL = "a position sees those after it: scores with j > i are −∞, so that their probabilities are 0"
_STEEP = "the scores Q Kᵀ are not divided by √size"
_UNMASKED = "the core that runs again has no causal mask: what runs again must be the first run once more"
_UNSCALED = "the core that runs again has no 1/√size: what runs again must be the first run once more"
_CHAIN = "its scores are divided by √size in forward, and so must their gradient be"
_MIXED = "dO is not cut into heads as O was joined: reshape to (seq, heads, size) first, and transpose then"

EXERCISE = Exercise(
    number=17,
    name="selective_recompute",
    title="selective recompute: run the attention core again, and keep no probabilities",
    level=4,
    chapter=7,
    sizes={
        "heads": per_rank(2),
        "seq": one_to(4, least=2),
        "size": one_to(4, least=2),
        "out": one_to(3),
    },
    deal=deal,
    calls=[
        Call("forward", takes="q k v w group", gives="y saved"),
        Call("backward", takes="dy saved w group", gives="dq dk dv dw"),
    ],
    properties=[
        Equals("y", 1, "the projected attention, on every rank"),
        Equals("dq", 2, "this rank's heads' gradient"),
        Equals("dk", 2, "this rank's heads' gradient"),
        Equals("dv", 1, "this rank's heads' gradient"),
        Equals("dw", 1, "this rank's rows of the heads' outputs, transposed, times dY"),
        Keeps("saved", lambda case: 3 * case.heads // case.t * case.seq * case.size * case.itemsize, 3),
        Calls("forward"),
        Calls("backward"),
        Sends("forward"),
    ],
    hints=(
        "Write forward so that the core is a function of its own, core(q, k, v) → (p, heads side by side). "
        "What has backward to do before it has p again?",
        "With o the core's output: do = dY Wᵀ, cut into heads again; dV = Pᵀ dO; dP = dO Vᵀ; the softmax "
        "gives dS = P · (dP − the row sums of P · dP), where the mask stays zero since P is. Then dQ = dS K "
        "/ √size, dK = dSᵀ Q / √size. The projection and its all-reduce need not run again.",
        "saved is (q, k, v). Backward begins with p, o = core(*saved), a plain call without communication. "
        "side by side: o.transpose(1, 0, 2).reshape(seq, -1); back: d.reshape(seq, heads, size)"
        ".transpose(1, 0, 2).",
    ),
)
