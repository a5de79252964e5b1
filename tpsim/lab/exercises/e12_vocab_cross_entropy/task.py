"""12 · Cross-entropy without gathering the logits

For each token, loss = log Σⱼ exp(xⱼ) − x_target, the sum over all words. The logits x are cut along the
vocabulary. A batch of 8,192 tokens has 8,192 · 128,256 of them: 4.2 GB in float32, too much to gather. Nor
need it be: three numbers a token say all that a rank must know of the others.

The vocabulary is padded to a multiple of t; with 3 words on 4 ranks, the last has nothing but padding::

        rank 0     rank 1     rank 2     rank 3
        x₀         x₁         x₂         −∞          so that exp gives 0

Logits can be so large that exp(x) overflows, or so far below 0 that every exp(x) is 0, and log 0 is −∞.
loss = log Σ exp(xⱼ − m) − (x_target − m) is the same for any m, and safe if m is the largest xⱼ.

Contract
--------
forward   logits [n, V/t], targets [n] (which word, the same on every rank) → loss [n], the same on every
          rank, and saved, whatever you need in backward. Three all-reduces of [n], and nothing else.
backward  dloss [n], the same on every rank, and saved → dlogits [n, V/t] = (p − onehot) · dloss, with p the
          softmax of the whole row, and 1 at the target in onehot; 0 in padding. No communication.
saved     an array, or a tuple or dict of arrays: at most [n, V/t] elements and 4 numbers of 8 bytes a token.

Results have the dtype of logits; inputs are not changed.

    group.all_reduce(v, op="max")    the largest of the ranks' v, element by element, on every rank

Check it with: tpsim lab check 12
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(logits: Array, targets: Array, group: Group) -> tuple[Array, Any]:
    """Return each token's loss, and what backward needs: [n, V/t] → [n]."""
    raise NotImplementedError


def backward(dloss: Array, saved: Any, group: Group) -> Array:
    """Return the gradient of this rank's logits: [n] → [n, V/t]."""
    raise NotImplementedError
