"""18 · Dropout inside and outside the region: one device's masks on t ranks

The second half of an MLP, or of attention, in training::

        Y = dropout( all-reduce( dropout(h_r) A_r ) )        h [rows, inner], cut by columns; A by rows
            outside              inside the region

Inside, each rank has columns of its own, and must drop its own: a mask that all ranks share drops the same
entries of every slice (tt-metal#55947). Outside, all ranks have the same sum, and must drop the same, or they
go on with different activations. And t ranks should train just as one device does, so both masks are one
device's: [rows, inner] inside, of which a rank takes its columns, and [rows, out] outside.

That is easy if random numbers come from a counter-based generator: number i of a stream is a function of
(seed, site, i), so a rank can enter the stream wherever its slice begins, and backward can draw the same
numbers again, with nothing kept. `uniforms` below is such a generator; leave it as it is.

Contract
--------
Entry [i, j] of a mask [rows, columns] takes number i · columns + j of its site's stream, and is kept if that
is ≥ rate. What is kept is divided by 1 − rate, what is dropped is 0.

forward   h [rows, inner/t], a [inner/t, out], seed, rate → y [rows, out], the same on every rank.
          One all-reduce of [rows, out].
backward  dy [rows, out] (the same on every rank), h, a, seed, rate → dh [rows, inner/t], da [inner/t, out].
          No communication.

Results have the dtype of what you are given; inputs are not changed.

Check it with: tpsim lab check 18
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]

INSIDE, OUTSIDE = 0, 1  # sites


def uniforms(seed: int, site: int, start: int, count: int) -> Array:
    """Return numbers `start` to `start + count` of a site's stream, each from 0 to 1: [count]."""
    skipped = start % 4  # the counter counts blocks of four
    words = np.random.Philox(key=[seed, site], counter=start // 4).random_raw(skipped + count)
    numbers: Array = (words[skipped:] >> np.uint64(11)) / 2.0**53
    return numbers


def forward(h: Array, a: Array, seed: int, rate: float, group: Group) -> Array:
    """Return y: [rows, inner/t] → [rows, out]."""
    raise NotImplementedError


def backward(dy: Array, h: Array, a: Array, seed: int, rate: float, group: Group) -> tuple[Array, Array]:
    """Return dh and da: [rows, out] → [rows, inner/t] and [inner/t, out]."""
    raise NotImplementedError
