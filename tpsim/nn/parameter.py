"""Parameters that know how they are cut among ranks.

That one fact drives everything else: initialisation draws the whole and takes its slice, gradient
sums go over the replicas, norms count each entry once, checkpoints are put together and cut anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group
from tpsim.dry import ShapeArray, kernel, without_data
from tpsim.functional import NARROW, widen

Array = NDArray[Any]
Init = Callable[[np.random.Generator, tuple[int, ...]], Array]
"""Draws a whole tensor in float64."""

Placed = list[tuple[tuple[slice, ...], Array]]
"""Parts of a tensor, each with its place in the whole."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a tensor's cut axis, divided into equal parts of which this rank holds one.

    A plain weight is one piece. A fused one is several, each of them cut: [Q | K | V] on two ranks is
    [Q0 K0 V0] and [Q1 K1 V1], never the first and the second half.

    Parts are equally long. Where `parts` does not divide `size`, the last ones end in padding: entries
    that this rank holds and the whole tensor does not have. 5 rows on 4 ranks lie as 2, 2, 1 + 1, 0 + 2.

    Parameters
    ----------
    size : int
        Length along the axis, in the whole tensor.
    parts, part : int
        Into how many parts it is cut, and which one is here.
    replicas : Group, optional
        The ranks that hold this same part, if there are others than this one.
    partial : bool
        Whether each replica computes only its share of the gradient, so that the shares must be summed.
        (Otherwise all replicas compute the same, whole gradient.)
    """

    size: int
    parts: int = 1
    part: int = 0
    replicas: Group | None = None
    partial: bool = False

    @property
    def local(self) -> int:
        """Length of the part that is here, padding included."""
        return -(-self.size // self.parts)

    @property
    def start(self) -> int:
        """Where the part begins within the piece."""
        return min(self.part * self.local, self.size)

    @property
    def real(self) -> int:
        """Length of the part without its padding: 0 in a part that is all padding."""
        return min(self.local, self.size - self.start)


def cut(size: int, group: Group) -> Piece:
    """Return a piece of which every rank of the group holds its own part."""
    return Piece(size, group.size, group.rank)


def replicated(size: int, group: Group, *, partial: bool = False) -> Piece:
    """Return a piece that every rank of the group holds whole."""
    return Piece(size, replicas=group if group.size > 1 else None, partial=partial)


class Parameter:
    """A tensor that is learned, or this rank's slice of it.

    Parameters
    ----------
    whole_shape : tuple of int
        Shape of the tensor on one device.
    axis : int
        The axis along which it is cut.
    pieces : sequence of Piece
        How; their sizes add up to `whole_shape[axis]`.
    init : callable
        Draws the whole tensor; every rank draws the same one, and keeps its slice. In a dry run nothing
        is drawn: `data` has a shape.
    rng : numpy.random.Generator
        In the same state on every rank.
    dtype : dtype

    Attributes
    ----------
    data : array
        This rank's slice.
    grad : array or None
        Its gradient, summed over the backward passes since `zero_grad`; in float32 where `data` is narrower,
        as Megatron-LM's `main_grad`: a sum of many small terms would lose them.
    summed : bool
        Whether the replicas' shares of it are summed, as `sum_replica_gradients` does.
    """

    def __init__(
        self,
        whole_shape: tuple[int, ...],
        axis: int,
        pieces: Sequence[Piece],
        init: Init,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> None:
        if sum(piece.size for piece in pieces) != whole_shape[axis]:
            sizes = " + ".join(str(piece.size) for piece in pieces)
            raise ValueError(
                f"Parameter: pieces of {sizes} do not make up axis {axis} of {whole_shape}; pass pieces "
                f"whose sizes add up to {whole_shape[axis]}"
            )
        self.whole_shape = whole_shape
        self.axis = axis
        self.pieces = tuple(pieces)
        whole: Any = ShapeArray(whole_shape) if without_data() else init(rng, whole_shape)
        self.data: Array = self.take(whole).astype(dtype)
        self.grad: Array | None = None
        self.summed = False

    def __repr__(self) -> str:
        return f"Parameter({self.data.shape} of {self.whole_shape}, {self.sharding()})"

    def sharding(self) -> str:
        """Return in words how the tensor is cut, for tables."""
        if all(piece.parts == 1 for piece in self.pieces):
            return "replicated"
        return f"axis {self.axis}: " + " + ".join(
            f"{piece.size}/{piece.parts}" if piece.parts > 1 else f"{piece.size}" for piece in self.pieces
        )

    def take(self, whole: Array) -> Array:
        """Return a copy of this rank's slice of a whole tensor; padding is 0."""
        if whole.shape != self.whole_shape:
            raise ValueError(
                f"parameter of whole shape {self.whole_shape}: got an array of shape {whole.shape}; pass the "
                "whole, uncut tensor"
            )
        parts: list[Array] = []
        for piece, where in zip(self.pieces, self.places(), strict=True):
            part = whole[where]
            padding = list(part.shape)
            padding[self.axis] = piece.local - piece.real
            parts += [part, np.zeros_like(part, shape=padding)]
        return np.concatenate(parts, axis=self.axis)

    def places(self) -> Iterator[tuple[slice, ...]]:
        """Yield, for each piece, where its local part lies in the whole tensor."""
        offset = 0
        for piece in self.pieces:
            yield self._along(offset + piece.start, piece.real)
            offset += piece.size

    def parts_of(self, local: Array) -> list[Array]:
        """Return views of a local array (`data` or `grad`), one for each piece, without padding."""
        parts, start = [], 0
        for piece in self.pieces:
            parts.append(local[self._along(start, piece.real)])
            start += piece.local
        return parts

    def placed(self, local: Array) -> Placed:
        """Return each piece of a local array with its place in the whole tensor."""
        return list(zip(self.places(), self.parts_of(local), strict=True))

    def _along(self, start: int, length: int) -> tuple[slice, ...]:
        """Index a stretch of the cut axis."""
        return (*[slice(None)] * self.axis, slice(start, start + length))

    def add_grad(self, grad: Array) -> None:
        """Add one backward pass's gradient."""
        if self.summed:
            raise RuntimeError(
                "backward: the gradients of this step are summed over replicas already; call zero_grad first"
            )
        grad = widen(grad)
        self.grad = grad if self.grad is None else accumulate(self.grad, grad)

    def no_grad(self) -> Array:
        """Return a gradient of zeros, to be filled."""
        return np.zeros_like(self.data, dtype=np.float32 if self.data.dtype in NARROW else None)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad, self.summed = None, False


@kernel
def accumulate(grad: Array, more: Array) -> Array:
    """Return the sum of two backward passes' gradients."""
    return grad + more


def assemble(shards: Iterable[tuple[Parameter, Array]]) -> Array:
    """Return the whole tensor from every rank's (parameter, local array): the inverse of `take`."""
    shards = list(shards)
    return put_together(shards[0][0].whole_shape, [parameter.placed(local) for parameter, local in shards])


def put_together(whole_shape: tuple[int, ...], shards: Sequence[Placed]) -> Array:
    """Return the whole tensor from every rank's `Parameter.placed`, which can travel between processes."""
    some = next(part for placed in shards for _, part in placed)  # a shard may be empty
    whole = np.empty_like(some, shape=whole_shape)
    for placed in shards:
        for where, part in placed:
            whole[where] = part
    return whole


def normal(std: float = 0.02) -> Init:
    """Draw from a normal distribution of mean 0."""
    return lambda rng, shape: rng.normal(0.0, std, shape)


SMALL_NORMAL = normal()
"""GPT-2's initialisation: standard deviation 0.02."""


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Fill with 0."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Fill with 1."""
    return np.ones(shape)
