"""11 · The embedding, cut along the vocabulary

y[i] = E[token i], with a table E of V rows: 128,256 in Llama-3, whose largest weight it is. E is cut by rows;
with 6 words on 2 ranks::

        rank 0            rank 1
        row 0 1 2         row 3 4 5

        tokens  4 0 4     on every rank
        rank 0  0 E₀ 0    looks up what it has, and leaves zeros for the rest
        rank 1  E₄ 0 E₄

In backward, the gradient dE has at each row the sum of dy over the tokens that used it. Each rank needs that
of its own rows only.

Contract
--------
tokens are n whole numbers from 0 to V−1, the same on every rank; so is dy.

forward   tokens [n], table [V/t, hidden] → y [n, hidden], the same on every rank. One all-reduce of
          [n, hidden], and nothing else.
backward  tokens [n], dy [n, hidden], table [V/t, hidden] → dtable [V/t, hidden]. No communication.

t divides V. Results have the dtype of table; inputs are not changed.

Check it with: tpsim lab check 11
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(tokens: Array, table: Array, group: Group) -> Array:
    """Return each token's row of the whole E: [n] → [n, hidden]."""
    raise NotImplementedError


def backward(tokens: Array, dy: Array, table: Array, group: Group) -> Array:
    """Return the gradient of this rank's rows: [n, hidden] → [V/t, hidden]."""
    raise NotImplementedError
