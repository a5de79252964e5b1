"""Collectives of a dry run: one rank stands for all, and arrays have shapes and no data.

Nobody is talked to. What the others would send has the shape of what this rank sends, so a result's shape
is known; what this rank would send is the algorithm's closed form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.comm.algorithms import closed_form
from tpsim.comm.backend import Array, Backend, Pending
from tpsim.comm.signature import Signature
from tpsim.dry import ShapeArray


class DryComm:
    """A communicator of `size` ranks, of which only `rank` is there."""

    def __init__(self, size: int, rank: int = 0) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"dry run: there is no rank {rank} of {size}; pick 0 to {size - 1}")
        self.size, self.rank = size, rank

    def Get_rank(self) -> int:
        """Return the rank that is there."""
        return self.rank

    def Get_size(self) -> int:
        """Return how many there would be."""
        return self.size

    def Dup(self) -> DryComm:
        """Return the same."""
        return self

    def Free(self) -> None:
        """Do nothing."""

    def Split(self, color: int, key: int = 0) -> Any:
        """Refuse: the others' colors are not known, for they are not there."""
        raise NotImplementedError(
            f"dry run: Split(color={color}) needs every rank's color, and one rank stands for all; make "
            "groups with dry_group, or use Group.neighbours"
        )

    def neighbours(self, count: int) -> DryComm:
        """Return the communicator of the `count` adjacent ranks that this one is among."""
        return DryComm(count, self.rank % count)


class DryPending(Pending):
    """A call that is done before it begins.

    Parameters
    ----------
    count : int
        Elements of the result.
    sent : (int, int)
        Messages and bytes of this rank.
    """

    __slots__ = ("_count", "_sent", "_x")

    def __init__(self, x: Array, count: int, sent: tuple[int, int]) -> None:
        self._x, self._count, self._sent = x, count, sent

    def start(self) -> None:
        """Do nothing."""

    def wait(self) -> Array:
        """Return an array of the result's size."""
        return np.empty_like(self._x, shape=(self._count,))

    def test(self) -> bool:
        """It is done."""
        return True

    def sent(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank would send."""
        return self._sent


class DryBackend(Backend):
    """Answers every call by shape."""

    counted = False

    def __init__(self, comm: DryComm) -> None:
        self._comm = comm

    def flat(self, x: Array) -> Array:
        """Return an array of x's size: to lay a buffer out is no work of the device."""
        return np.empty_like(x, shape=(x.size,))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of that shape."""
        whole: Any = ShapeArray(shape, dtype)
        return whole  # type: ignore[no-any-return]

    def joined(self, blocks: Array, axis: int, shape: tuple[int, ...]) -> Array:
        """Return an array of the joined shape, likewise."""
        return np.empty_like(blocks, shape=shape)

    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """Return as many."""
        return self._pending(call, x, x.size, x.size)

    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """Return this rank's block."""
        return self._pending(call, x, x.size // self._comm.size, x.size)

    def all_gather(self, call: Signature, x: Array) -> Pending:
        """Return every rank's block."""
        whole = x.size * self._comm.size
        return self._pending(call, x, whole, whole)

    def broadcast(self, call: Signature, x: Array) -> Pending:
        """Return as many."""
        return self._pending(call, x, x.size, x.size, call.place or 0)

    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """Return as many."""
        return self._pending(call, x, x.size, x.size)

    def barrier(self, call: Signature) -> Pending:
        """Come back at once; costs what an all-reduce of one byte does."""
        return self._pending(call._replace(operation="all_reduce"), np.zeros(1, np.uint8), 1, 1)

    def _pending(self, call: Signature, x: Array, count: int, full: int, root: int = 0) -> Pending:
        size, rank = self._comm.size, self._comm.rank
        cost = closed_form.sent(call.operation, call.algorithm, rank, size, full, root)
        return DryPending(x, count, (cost.messages, cost.elements * x.itemsize))
