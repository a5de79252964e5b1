r"""The two ends of a language model, cut along the vocabulary: tokens to vectors, vectors to logits.

The table E [V, h] is cut by rows, as one weight for both ends (tied) or one for each. On 4 ranks 10 words
become 12 rows, 3 on each: the last two are padding, which the whole E, and so a checkpoint, does not have::

      rank 0          rank 1          rank 2          rank 3
    [ 0  1  2 ]     [ 3  4  5 ]     [ 6  7  8 ]     [ 9  ·  · ]

Padding must never be seen: no token is mapped to it, its logits are −inf, and it gets no gradient.

References
----------
Shoeybi et al. (2019), "Megatron-LM", section 3 (input and output embeddings);
Press and Wolf (2017), "Using the output embedding to improve language models", for tying.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import linear, linear_grad_input, linear_grad_weight, widen
from tpsim.nn.borders import enter, leave
from tpsim.nn.cached import Cached
from tpsim.nn.layer import Layer
from tpsim.nn.parameter import SMALL_NORMAL, Init, Parameter, Piece, cut, replicated

Array = NDArray[Any]


class VocabParallelEmbedding(Layer):
    """Y[i] = E[token i], E cut by rows: each rank looks up the tokens that it has, and leaves 0 for others.

    The sum over ranks is the border g's all-reduce, of one term and t − 1 zeros: exact. Backward, each
    rank adds dY to the rows of its own tokens, without communication.

    Parameters
    ----------
    vocab, hidden : int
        V and h of the whole E; any V, padded here up to `padded_vocab(vocab, t)` rows in all.
    group : Group, optional
        The ranks that share E; one rank alone by default.
    sequence_parallel : bool
        Y leaves cut along the sequence, [b, s/t, h].
    init, rng, dtype
        The weights' distribution, its generator (in the same state on every rank), and their dtype.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3.
    """

    def __init__(
        self,
        vocab: int,
        hidden: int,
        group: Group | None = None,
        *,
        sequence_parallel: bool = False,
        init: Init = SMALL_NORMAL,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        self.vocab = vocab
        self.rows = cut(vocab, group)
        self.leave = leave(group, sequence_parallel=sequence_parallel)
        rng = rng or np.random.default_rng(0)
        self.weight = Parameter((vocab, hidden), 0, [self.rows], init, rng, dtype)

    def forward(self, tokens: Array) -> Array:
        """Integers [b, s], the same on every rank → [b, s, h]."""
        check_tokens(self, tokens, self.vocab)
        self.save_statistics(tokens=tokens)
        row, mine = own_rows(tokens, self.rows)
        y = np.take(self.weight.data, row, axis=0)
        return self.leave.forward(np.where(mine[..., np.newaxis], y, 0))

    def backward(self, dy: Array) -> None:  # type: ignore[override]  # tokens have no gradient
        """[b, s, h] → nothing."""
        dy = self.leave.backward(dy)
        row, mine = own_rows(self.take("tokens"), self.rows)
        dweight = self.weight.no_grad()
        add_rows(dweight, row, widen(np.where(mine[..., np.newaxis], dy, 0)))
        self.weight.add_grad(dweight)


class PositionEmbedding(Layer):
    """Y = X + P[position], P learned and whole on every rank.

    Under sequence parallelism a rank's first position is not 0, and it fills s/t rows of dP: a share,
    summed once a step by `sum_replica_gradients`.

    Parameters
    ----------
    length, hidden : int
        P is [length, hidden]: no sequence may be longer.
    group, sequence_parallel, init, rng, dtype
        As for `VocabParallelEmbedding`.
    """

    def __init__(
        self,
        length: int,
        hidden: int,
        group: Group | None = None,
        *,
        sequence_parallel: bool = False,
        init: Init = SMALL_NORMAL,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        self.ranks, self.rank = (group.size, group.rank) if sequence_parallel else (1, 0)
        whole = replicated(length, group, partial=sequence_parallel)
        rng = rng or np.random.default_rng(0)
        self.weight = Parameter((length, hidden), 0, [whole], init, rng, dtype)

    def forward(self, x: Array, cached: Cached | None = None) -> Array:
        """[b, s, h] → [b, s, h]; under sequence parallelism [b, s/t, h]. A cache says where x stands."""
        check_hidden(self, x, self.weight)
        if cached:
            return x + self.weight.data[cached.positions]
        length, seq = self.weight.whole_shape[0], x.shape[1] * self.ranks
        if seq > length:
            raise ValueError(
                f"PositionEmbedding: a sequence of {seq} is longer than the {length} positions there are; "
                f"cut it, or build the layer with length={seq}"
            )
        return x + self.weight.data[self._here(x)]

    def backward(self, dy: Array) -> Array:
        """Same shape."""
        dweight = self.weight.no_grad()
        dweight[self._here(dy)] = widen(dy).sum(axis=0)
        self.weight.add_grad(dweight)
        return dy

    def _here(self, x: Array) -> slice:
        """Return the positions that this rank's x has."""
        return slice(self.rank * x.shape[1], (self.rank + 1) * x.shape[1])


class LMHead(Layer):
    """Logits = X Eᵀ, E cut by rows: rank i computes the logits of its own words.

    A column-parallel linear whose weight is stored transposed, as the embedding has it. dX = Σᵢ dYᵢ Eᵢ:
    the sum over ranks is the border f's all-reduce. Logits of padding are −inf: no softmax and no
    argmax takes them, and as constants they pass no gradient on.

    Parameters
    ----------
    vocab, hidden, group, init, rng, dtype
        As for `VocabParallelEmbedding`.
    weight : Parameter, optional
        An embedding's, to be tied to: both layers add to its gradient. By default the head has its own.
    sequence_parallel : bool
        X comes cut along the sequence, [b, s/t, h], and is gathered here.
    keep_gathered : bool
        As for `ColumnParallelLinear`.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3.
    """

    def __init__(
        self,
        vocab: int,
        hidden: int,
        group: Group | None = None,
        *,
        weight: Parameter | None = None,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        init: Init = SMALL_NORMAL,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        self.rows = cut(vocab, group)
        self.keep_gathered = keep_gathered
        self.enter = enter(group, sequence_parallel=sequence_parallel)
        if weight is None:
            rng = rng or np.random.default_rng(0)
            weight = Parameter((vocab, hidden), 0, [self.rows], init, rng, dtype)
        if weight.whole_shape != (vocab, hidden) or weight.pieces != (self.rows,):
            raise ValueError(
                f"LMHead: {weight!r} can't be tied to a head of shape {(vocab, hidden)} cut into "
                f"{group.size}; pass the weight of a VocabParallelEmbedding({vocab}, {hidden}) on this group"
            )
        self.weight = weight

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s, V/t], padding included."""
        check_hidden(self, x, self.weight)
        whole = self.enter.forward(x)
        self.save(x=whole if self.keep_gathered else x)
        logits = linear(whole, self.weight.data.T)
        logits[..., self.rows.real :] = -np.inf
        return logits

    def backward(self, dy: Array) -> Array:
        """[b, s, V/t] → [b, s, h]."""
        x = self.take("x")
        if not self.keep_gathered:
            x = self.enter.again(x)
        dweight, _ = linear_grad_weight(dy, x)  # dYᵀ X, for E = Aᵀ
        dweight[self.rows.real :] = 0
        self.weight.add_grad(dweight)
        # Rows of padding are 0, and so is what they add to dX.
        return self.enter.backward(linear_grad_input(self.weight.data.T, dy))


def padded_vocab(vocab: int, ranks: int) -> int:
    """Return how many rows (or logits) the ranks have in all: `vocab`, up to a multiple of `ranks`.

    Examples
    --------
    >>> padded_vocab(50257, 8)
    50264
    """
    return -(-vocab // ranks) * ranks


def own_rows(tokens: Array, rows: Piece) -> tuple[Array, Array]:
    """Return each token's row on this rank, and whether it has one; where it has not, the row is 0."""
    row = tokens.astype(np.int64) - rows.start  # tokens may be unsigned
    mine = (row >= 0) & (row < rows.real)
    return np.where(mine, row, 0), mine


def add_rows(table: Array, row: Array, values: Array) -> None:
    """table[row] += values, where a row that occurs twice gets both (NumPy's own `+=` keeps one).

    `np.add.at` is far faster over single entries than over rows.
    """
    width = table.shape[-1]
    entry = row[..., np.newaxis] * width + np.arange(width, like=row)
    np.add.at(table.reshape(-1), entry.reshape(-1), values.reshape(-1))


def check_tokens(layer: Layer, tokens: Array, vocab: int, ignored: int | None = None) -> None:
    """Raise ValueError unless `tokens` are integers [batch, seq] from 0 to vocab − 1, or `ignored`.

    A token beyond the vocabulary would be nobody's: a vector of zeros, or a loss without its target.
    """
    name = type(layer).__name__
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: got {tokens.dtype} of shape {tokens.shape}, and tokens are integers [batch, seq]; "
            "reshape or convert them"
        )
    if not isinstance(tokens, np.ndarray):
        return  # a dry run's tokens have no values
    wrong = (tokens < 0) | (tokens >= vocab)
    if ignored is not None:
        wrong &= tokens != ignored
    if wrong.any():
        raise ValueError(
            f"{name}: token {tokens[wrong][0]} is not in a vocabulary of {vocab}; pick 0 to {vocab - 1}, or "
            "build the layer with a larger vocab"
        )


def check_hidden(layer: Layer, x: Array, weight: Parameter) -> None:
    """Raise ValueError unless `x` is [batch, seq, hidden] in the weight's dtype."""
    name, hidden, dtype = type(layer).__name__, weight.whole_shape[1], weight.data.dtype
    if x.ndim != 3 or x.shape[-1] != hidden or x.dtype != dtype:
        raise ValueError(
            f"{name}: x is {x.dtype} of shape {x.shape}, and {dtype} [batch, seq, {hidden}] is needed here; "
            "convert x, or build the layer for it"
        )
