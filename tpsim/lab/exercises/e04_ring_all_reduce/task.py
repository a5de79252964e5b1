"""4 · The ring all-reduce, by hand

Rank r has a vector x_r of N numbers. Afterwards every rank has Σ x_r. You have only messages from one rank to
another. Cut each vector into t chunks, and pass one chunk a step around the ring of ranks::

    t = 3             rank 0         rank 1         rank 2
    given             a₀ b₀ c₀       a₁ b₁ c₁       a₂ b₂ c₂
    reduce-scatter    a₀+a₁+a₂       b₀+b₁+b₂       c₀+c₁+c₂       in t−1 steps: rank r has the r-th chunk
    all-gather        all three      all three      all three      in t−1 steps more

In each step a rank sends one chunk to a neighbour and gets one from the other neighbour. In the
reduce-scatter it adds what came to its own chunk of the same number, and sends that sum on in the next step.
In the all-gather finished chunks go round unchanged.

Contract
--------
reduce_scatter  x [N], t divides N → part [N/t], the r-th chunk of the sum.
all_gather      own [N/t] → whole [N], the ranks' chunks in rank order.
all_reduce      x [N] → y [N], the sum on every rank.

Each of the first two: t−1 sends and t−1 receives of [N/t]. The all-reduce: one after the other, so each rank
sends 2(t−1)/t · N elements, hardly more for 1,000 ranks than for 10. No other collective. Results have the
dtype of what you are given; inputs are not changed.

    group.rank, group.size      which rank this is, of how many
    group.send(v, to)           send an array; returns when the other rank has received it
    group.isend(v, to)          begin to send, and go on; its handle's .wait() returns when it is received
    group.recv(like, source)    return the array that rank `source` sent; `like` is any array of its shape and
                                dtype

Check it with: tpsim lab check 4
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def reduce_scatter(x: Array, group: Group) -> Array:
    """Return this rank's chunk of the sum: [N] → [N/t]."""
    raise NotImplementedError


def all_gather(own: Array, group: Group) -> Array:
    """Return every rank's chunk, in rank order: [N/t] → [N]."""
    raise NotImplementedError


def all_reduce(x: Array, group: Group) -> Array:
    """Return the sum on every rank: [N] → [N]."""
    raise NotImplementedError
