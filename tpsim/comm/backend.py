"""How a group's collectives are carried out: the interface.

Three classes have it: `meeting_backend` (virtual ranks, at one stroke), `message_backend` (the
hand-written algorithms, on any communicator) and `mpi_backend` (the MPI library's own collectives).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.signature import Signature

Array = NDArray[Any]
Reduction = Literal["sum", "max", "min"]
UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class Pending(ABC):
    """A collective under way, or about to be.

    Attributes
    ----------
    counted : bool
        Whether `sent` counted the messages one by one (else they are the algorithm's closed form).
    """

    __slots__ = ()
    counted = False

    @abstractmethod
    def start(self) -> None:
        """Set it going without waiting. `wait` alone does it from beginning to end."""

    @abstractmethod
    def wait(self) -> Array:
        """Return the result when there is one."""

    def look(self) -> Array:
        """Do as `wait`, for a caller that only reads the result: other ranks may hold the same array."""
        return self.wait()

    @abstractmethod
    def test(self) -> bool:
        """Push the collective on as far as it goes without waiting; return whether it is done."""

    @abstractmethod
    def sent(self) -> tuple[int, int]:
        """Return the messages and bytes that this rank sends for it; final once it is done."""


class Backend(ABC):
    """Carries out collectives for one rank of a group.

    Every method takes the call as all ranks must agree on it, and this rank's contiguous 1-D buffer,
    which must not change before the `Pending` is done. The result is a fresh 1-D array.

    Attributes
    ----------
    counted : bool
        Whether sent messages are counted one by one (else they are the algorithm's closed form).
    damage : int or None
        A fault: a bit of what this rank sends in its next call is turned over, drawn by this seed.
    """

    counted: bool
    damage: int | None = None

    def take_damage(self) -> int | None:
        """Return the fault of the call that begins now."""
        seed, self.damage = self.damage, None
        return seed

    def flat(self, x: Array) -> Array:
        """Return x as the contiguous 1-D buffer that is sent."""
        return x.ravel()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array to put a result in."""
        return np.empty(shape, dtype)

    def joined(self, blocks: Array, axis: int, shape: tuple[int, ...]) -> Array:
        """Return [ranks, *block] joined along the blocks' `axis`, which gives `shape`."""
        return np.concatenate(list(blocks), axis)

    @abstractmethod
    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """Reduce, everybody gets the result."""

    @abstractmethod
    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """Reduce; rank i gets the i-th of the equal blocks."""

    @abstractmethod
    def all_gather(self, call: Signature, x: Array) -> Pending:
        """Every rank's x behind one another."""

    @abstractmethod
    def broadcast(self, call: Signature, x: Array) -> Pending:
        """The root's x."""

    @abstractmethod
    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """Block j of rank i becomes block i of rank j."""

    @abstractmethod
    def barrier(self, call: Signature) -> Pending:
        """Wait for everybody."""
