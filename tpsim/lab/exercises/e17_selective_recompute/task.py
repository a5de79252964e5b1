"""17 · Selective recompute: run the attention core again, and keep no probabilities

Attention on one rank, which has heads/t of the heads and their rows of the projection W::

        S = Q Kᵀ / √size, −∞ where j > i     scores, causal: position i sees j ≤ i   [heads/t, seq, seq]
        P = softmax(S)                       probabilities                           [heads/t, seq, seq]
        O = P V, heads side by side          what the core gives                     [seq, heads/t · size]
        Y = all-reduce(O W)                  the row-parallel projection             [seq, out]

P grows with seq², and in a long sequence it is most of what a block keeps. Yet to compute it again costs a
few percent of the block's FLOPs. So keep Q, K and V, and in backward run the core again: only the core
(Korthikanti et al. 2022, section 5). Whoever runs all of forward again pays for its all-reduce twice.

Contract
--------
forward   q, k, v [heads/t, seq, size], w [heads/t · size, out] → y [seq, out], the same on every rank, and
          saved: what backward needs, an array or a tuple, list or dict of arrays. saved holds at most
          as many elements as q, k and v together: neither P nor O. One all-reduce of [seq, out].
backward  dy [seq, out] (the same on every rank), saved, w → dq, dk, dv [heads/t, seq, size], and
          dw [heads/t · size, out]. No communication.

Head j of a rank has columns j · size to (j + 1) · size of O. Results have the dtype of what you are given;
inputs are not changed.

Check it with: tpsim lab check 17
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(q: Array, k: Array, v: Array, w: Array, group: Group) -> tuple[Array, Any]:
    """Return y and saved: [heads/t, seq, size] three times → [seq, out]."""
    raise NotImplementedError


def backward(dy: Array, saved: Any, w: Array, group: Group) -> tuple[Array, Array, Array, Array]:
    """Return dq, dk, dv and dw: [seq, out] → [heads/t, seq, size] three times and [heads/t · size, out]."""
    raise NotImplementedError
