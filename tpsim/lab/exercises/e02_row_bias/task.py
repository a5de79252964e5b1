"""2 · The row-parallel linear: where is the bias added?

Y = X A + b, with A cut by rows and X by columns::

                        ⎡ A₀ ⎤
        [ X₀ │ X₁ ]  ·  ⎢────⎥  + b  =  X₀ A₀ + X₁ A₁ + b
                        ⎣ A₁ ⎦

Rank r has X_r, A_r, and the whole b. When all is done, every rank has the whole Y.

Contract
--------
x [rows, inner/t], a [inner/t, out], b [out] → y [rows, out], the same on every rank, in the dtype of x.
Inputs are not changed. One all-reduce of [rows, out], and nothing else: by the ring, 2(t−1)/t · rows · out
elements a rank.

    group.all_reduce(v)     the sum of every rank's v, on every rank
    group.rank, group.size  which rank this is, of how many

Check it with: tpsim lab check 2
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def row_linear(x: Array, a: Array, b: Array, group: Group) -> Array:
    """Return Y on every rank: [rows, inner/t] → [rows, out]."""
    raise NotImplementedError
