"""Patient 9 · The output layer and the loss of each token

The embedding's columns are cut: rank r has the words from r · V/t to (r + 1) · V/t. The loss needs three
numbers a token of the other ranks, and never the logits themselves::

        loss = log Σ exp(x − m) − (x_target − m)        m, Σ and x_target by all-reduce

To choose the next word when text is generated, all logits are wanted: the output layer can gather them.

Complaint: the loss on one rank begins at log V, as it must. On two it begins at 0.69 above that, and falls as
ever. On eight, at 2.08 above.

Contract
--------
x [n, hidden] and targets [n] (the same on every rank), e [hidden, V/t] → loss [n], the same on every rank.
Three all-reduces of [n], and nothing else.

Run it with: tpsim lab bugs run 9
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def output_layer(x: Array, e: Array, group: Group, *, gather: bool = True) -> Array:
    """Return the logits, of all words or of this rank's: [n, hidden] → [n, V] or [n, V/t]."""
    logits: Array = x @ e
    return group.all_gather(logits, axis=1) if gather else logits


def vocab_parallel_loss(logits: Array, targets: Array, group: Group) -> Array:
    """Return log Σ exp(x) − x_target: [n, V/t] → [n]."""
    words = logits.shape[1]
    shifted = logits - group.all_reduce(logits.max(axis=1), op="max")[:, None]
    total = group.all_reduce(np.exp(shifted).sum(axis=1))
    column = targets - group.rank * words
    here = (column >= 0) & (column < words)
    at_target = shifted[np.arange(len(targets)), np.where(here, column, 0)]
    return np.log(total) - group.all_reduce(np.where(here, at_target, 0))


def token_loss(x: Array, e: Array, targets: Array, group: Group) -> Array:
    """[n, hidden] → [n]."""
    logits = output_layer(x, e, group)
    return vocab_parallel_loss(logits, targets, group)
