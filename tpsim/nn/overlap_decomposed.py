"""Collective matmul: gathers and scatters of the sequence, cut into steps that hide behind pieces of GEMM.

A gather hands out rows of X, and Y = X A needs but its own rows: whoever has a chunk multiplies it while the
next one comes around the ring. Rank 0 of 3, which receives from rank 2 and sends to rank 1::

    all-gather X, then X A             compute      │ X₀ A │ X₂ A │ X₁ A │
                                       receive      │  X₂  │  X₁  │

    X A, then reduce-scatter Y         compute      │ (X A)₂ │ (X A)₁ │ (X A)₀ │
                                       receive               │  sum₁  │  sum₀  │

In the second, each sum goes once around and takes up a term on every rank, last on the one that keeps it: the
order of additions of the ring's reduce-scatter. Each rank sends t − 1 messages of N/t elements each time, as
in the ring's collectives, and a trace shows them as sends and receives.

Results equal the plain layers' to 1e-12 in float64: the same terms, but a smaller GEMM rounds otherwise, and
dA is a sum over chunks. (Each step's GEMM is cut once more where `polling` asks for more pieces than t.)

References
----------
Wang et al. (2023), "Overlap communication with dependent computation via decomposition in large deep learning
models", ASPLOS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group, Handle
from tpsim.functional import add_linear_grad_weight, bias_grad, linear, linear_grad_input, widen
from tpsim.nn.borders import SEQUENCE, Border, GatherSequence, ScatterSequence, check_sequence
from tpsim.nn.checks import check_input
from tpsim.nn.embedding import LMHead, check_hidden
from tpsim.nn.layer import Layer
from tpsim.nn.linear import ColumnParallelLinear, RowParallelLinear
from tpsim.nn.polling import joined, polling

Array = NDArray[Any]
Parts = dict[int, Array]  # parts of a sequence, by where they start


def around(group: Group, x: Array) -> Iterator[tuple[slice, Array]]:
    """Yield every rank's x in parts, own first, with their places in the gathered sequence.

    While the caller works on a chunk, it is sent on and the next one comes.
    """
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    length = x.shape[SEQUENCE]
    for step in range(group.size):
        last = step == group.size - 1
        coming = None if last else group.irecv(x, left)
        going = None if last else group.isend(x, right)
        start = (group.rank - step) % group.size * length
        for piece in polling(length, coming, going, steps=group.size):
            yield slice(start + piece.start, start + piece.stop), x[:, piece]
        if coming is not None and going is not None:
            x = coming.wait()
            going.wait()


def gathered_product(
    group: Group, x: Array, product: Callable[[Array], Array], *, keep: bool
) -> tuple[Array, Array]:
    """Return product(x) of the gathered x, and what is kept for backward: the gathered x if `keep`, else x.

    `product` acts on each position by itself.
    """
    parts, products = Parts(), Parts()
    for where, part in around(group, x):
        products[where.start] = product(part)
        if keep:
            parts[where.start] = part
    return _in_order(products), _in_order(parts) if keep else x


def scattered_product(group: Group, x: Array, product: Callable[[Array], Array]) -> Array:
    """Return this rank's part of the sequence of product(x), summed over ranks.

    `product` acts on each position by itself. While it computes one chunk's term, the sum to which that is
    added comes.
    """
    left, right = (group.rank - 1) % group.size, (group.rank + 1) % group.size
    chunks = np.split(x, group.size, axis=SEQUENCE)

    def term(step: int, *under_way: Handle) -> Array:
        chunk = chunks[(group.rank - 1 - step) % group.size]
        behind = polling(chunk.shape[SEQUENCE], *under_way, steps=group.size)
        y = joined([product(chunk[:, piece]) for piece in behind], axis=SEQUENCE)
        return widen(y) if group.accumulate == "float32" else y

    total = term(0)
    for step in range(1, group.size):
        coming, going = group.irecv(total, left), group.isend(total, right)
        mine = term(step, coming, going)
        total = coming.wait() + mine
        going.wait()
    return total.astype(x.dtype, copy=False)


class DecomposedColumnParallelLinear(ColumnParallelLinear):
    """A `ColumnParallelLinear` under sequence parallelism, as collective matmuls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _check_decomposes(self, self.enter)

    def forward(self, x: Array) -> Array:
        """[b, s/t, in] → [b, s, out/t]."""
        check_input(self, x, self.weight)
        weight, bias = self.weight.data, self.bias.data if self.bias else None
        y, kept = gathered_product(
            self.enter.group, x, lambda part: linear(part, weight, bias), keep=self.keep_gathered
        )
        self.save(x=kept)
        return self.gather.forward(y) if self.gather else y

    def backward(self, dy: Array) -> Array:
        """[b, s, out/t] → [b, s/t, in]."""
        if self.gather:
            dy = self.gather.backward(dy)
        x, group = self.take("x"), self.enter.group
        dweight = self.weight.no_grad()
        for where, part in _whole(x) if self.keep_gathered else around(group, x):
            add_linear_grad_weight(part, dy[:, where], dweight)
        self.weight.add_grad(dweight)
        if self.bias:
            self.bias.add_grad(bias_grad(dy))
        return scattered_product(group, dy, lambda part: linear_grad_input(self.weight.data, part))


class DecomposedRowParallelLinear(RowParallelLinear):
    """A `RowParallelLinear` under sequence parallelism, as collective matmuls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _check_decomposes(self, self.leave)

    def forward(self, x: Array) -> Array:
        """[b, s, in/t] → [b, s/t, out]."""
        if self.scatter:
            x = self.scatter.forward(x)
        check_input(self, x, self.weight)
        check_sequence(x, self.leave.group)
        self.save(x=x)
        y = scattered_product(self.leave.group, x, lambda part: linear(part, self.weight.data))
        return y + self.bias.data if self.bias else y

    def backward(self, dy: Array) -> Array:
        """[b, s/t, out] → [b, s, in/t]."""
        x = self.take("x")
        if self.bias:
            self.bias.add_grad(bias_grad(dy))
        parts, dweight = Parts(), self.weight.no_grad()
        for where, part in around(self.leave.group, dy):
            parts[where.start] = linear_grad_input(self.weight.data, part)
            add_linear_grad_weight(x[:, where], part, dweight)
        self.weight.add_grad(dweight)
        dx = _in_order(parts)
        return self.scatter.backward(dx) if self.scatter else dx


class DecomposedLMHead(LMHead):
    """An `LMHead` under sequence parallelism, as collective matmuls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _check_decomposes(self, self.enter)

    def forward(self, x: Array) -> Array:
        """[b, s/t, h] → [b, s, V/t], padding included."""
        check_hidden(self, x, self.weight)
        logits, kept = gathered_product(
            self.enter.group, x, lambda part: linear(part, self.weight.data.T), keep=self.keep_gathered
        )
        self.save(x=kept)
        logits[..., self.rows.real :] = -np.inf
        return logits

    def backward(self, dy: Array) -> Array:
        """[b, s, V/t] → [b, s/t, h]."""
        x, group = self.take("x"), self.enter.group
        dweight = self.weight.no_grad()
        for where, part in _whole(x) if self.keep_gathered else around(group, x):
            add_linear_grad_weight(dy[:, where], part, dweight)
        dweight[self.rows.real :] = 0
        self.weight.add_grad(dweight)
        return scattered_product(group, dy, lambda part: linear_grad_input(self.weight.data.T, part))


def _whole(x: Array) -> Iterator[tuple[slice, Array]]:
    """Yield what `around` yields, of an x that is gathered already."""
    yield slice(0, x.shape[SEQUENCE]), x


def _in_order(parts: Parts) -> Array:
    """Return the sequence that the parts make up."""
    return joined([parts[start] for start in sorted(parts)], axis=SEQUENCE)


def _check_decomposes(layer: Layer, border: Border) -> None:
    """Raise ValueError unless the border gathers or scatters the sequence."""
    if not isinstance(border, (GatherSequence, ScatterSequence)):
        raise ValueError(
            f"{type(layer).__name__}: overlap 'decomposed' cuts the gather and the scatter of sequence "
            "parallelism into steps, and without it there is an all-reduce; pass sequence_parallel=True, or "
            "overlap='dw'"
        )
