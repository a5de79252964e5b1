"""15 · Norms under sequence parallelism: sum their gradients, once

A layer norm is y = γ · x̂ + β, with x̂ the normalized x, and γ and β [hidden] whole on every rank. So is the
bias of a row-parallel linear, z = … + bias, which is added after g. Under sequence parallelism these work on
a rank's own part of the sequence::

        rank 0   tokens 0 … s/t − 1      y = γ · x̂ + β
        rank 1   tokens s/t …            y = γ · x̂ + β        with the same γ and β

On one device dγ = Σ dy · x̂, dβ = Σ dy and dbias = Σ dz, over all tokens of the batch. Here a rank has only
its own. Without more, the copies of γ learn from different tokens, and drift apart.

A model has dozens of such small gradients; an all-reduce for each would cost its latency each time. They are
collected instead, and summed together at the end of backward.

Contract
--------
shares  normed (x̂) [b, s/t, hidden], dy [b, s/t, hidden], dz [b, s/t, out] → dgamma [hidden], dbeta [hidden],
        dbias [out] of this rank's tokens. No communication: it is not given the group.
finish  dgamma, dbeta, dbias, each rank's own → the same three over all tokens, the same on every rank. One
        all-reduce of 2 · hidden + out numbers, and nothing else.

Results have the dtype of what you are given; inputs are not changed.

Check it with: tpsim lab check 15
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def shares(normed: Array, dy: Array, dz: Array) -> tuple[Array, Array, Array]:
    """Return dgamma, dbeta and dbias of this rank's tokens."""
    raise NotImplementedError


def finish(dgamma: Array, dbeta: Array, dbias: Array, group: Group) -> tuple[Array, Array, Array]:
    """Return the gradients over all tokens."""
    raise NotImplementedError
