"""Collectives of virtual ranks at one stroke: everybody's array at one meeting, the result computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpsim.comm.algorithms import closed_form, get
from tpsim.comm.algorithms.chunks import bounds
from tpsim.comm.backend import UFUNCS, Array, Backend, Pending
from tpsim.comm.faults.damage import damaged
from tpsim.comm.signature import Signature
from tpsim.comm.virtual import VirtualComm
from tpsim.comm.virtual.meeting import Meeting
from tpsim.comm.wire import Sealed, checksum, corruption

Combine = Callable[[list[Array]], Sequence[Array]]


class MeetingPending(Pending):
    """A meeting, to join or joined.

    Parameters
    ----------
    count : int
        Elements of the full tensor, for the closed form of what is sent.
    shared : bool
        Whether all ranks get one and the same array: each takes a copy.
    """

    __slots__ = ("_call", "_combine", "_comm", "_count", "_meeting", "_shared", "_x")

    def __init__(
        self,
        comm: VirtualComm,
        call: Signature,
        x: Array | Sealed,
        combine: Callable[[list[Any]], Sequence[Array]],
        count: int,
        shared: bool,
    ) -> None:
        self._comm = comm
        self._call = call
        self._x = x
        self._combine = combine
        self._count = count
        self._shared = shared
        self._meeting: Meeting | None = None

    def sent(self) -> tuple[int, int]:
        """Return what the algorithm would have sent."""
        call, comm = self._call, self._comm
        operation = "all_reduce" if call.operation == "barrier" else call.operation  # of one byte
        root = call.place or 0 if operation == "broadcast" else 0
        cost = closed_form.sent(operation, call.algorithm, comm.rank, comm.size, self._count, root)
        return cost.messages, cost.elements * self._x.itemsize

    def start(self) -> None:
        """Join, without waiting for the others."""
        self._meeting = self._comm.meet(self._call, self._x, self._combine)

    def wait(self) -> Array:
        """Return this rank's result."""
        result = self.look()
        return result.copy() if self._shared and self._comm.size > 1 else result

    def look(self) -> Array:
        """Return this rank's result, or the one that all ranks share."""
        result: Array
        if self._meeting is None:
            result = self._comm.together(self._call, self._x, self._combine)
        else:
            result = self._comm.settle(self._meeting)
        return result

    def test(self) -> bool:
        """Return whether everybody has come."""
        return self._meeting is not None and self._comm.request(self._meeting).Test()


class MeetingBackend(Backend):
    """The results of the named algorithm at once: the same sums in the same order, without its messages.

    Only virtual ranks can do this: they see each other's arrays. What each would have sent is the
    algorithm's closed form, which the tests hold against the messages counted by `MessageBackend`.
    """

    counted = False

    def __init__(self, comm: VirtualComm, algorithm: str, *, checksums: bool = False) -> None:
        self._comm = comm
        self._checksums = checksums
        self._algorithm = get("rank_order" if algorithm == "mpi" else algorithm)  # as VirtualComm's own
        self._all_reduce = {name: self._reducing(op) for name, op in UFUNCS.items()}
        self._reduce_scatter = {name: self._scattering(op) for name, op in UFUNCS.items()}

    def _reducing(self, op: np.ufunc) -> Combine:
        size, combine = self._comm.size, self._algorithm.combine
        return lambda values: [combine(values, op)] * size

    def _scattering(self, op: np.ufunc) -> Combine:
        size, combine = self._comm.size, self._algorithm.combine_scatter
        return lambda values: combine(values, bounds(values[0].size, size), op)

    def _pending(
        self, call: Signature, x: Array, combine: Combine, count: int, shared: bool
    ) -> MeetingPending:
        damage = self.take_damage()
        on_its_way = x if damage is None else damaged(x, damage)
        if not self._checksums:
            return MeetingPending(self._comm, call, on_its_way, combine, count, shared)
        sealed = Sealed(on_its_way, checksum(x))
        return MeetingPending(self._comm, call, sealed, _unsealing(call, self._comm, combine), count, shared)

    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """Reduce at a meeting."""
        return self._pending(call, x, self._all_reduce[call.reduction], x.size, True)

    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """Reduce at a meeting, each takes its block."""
        return self._pending(call, x, self._reduce_scatter[call.reduction], x.size, False)

    def all_gather(self, call: Signature, x: Array) -> Pending:
        """Lay the blocks behind one another at a meeting."""
        size = self._comm.size
        return self._pending(call, x, lambda values: [np.concatenate(values)] * size, x.size * size, True)

    def broadcast(self, call: Signature, x: Array) -> Pending:
        """Copy the root's buffer at a meeting."""
        root, size = call.place or 0, self._comm.size
        return self._pending(call, x, lambda values: [values[root].copy()] * size, x.size, True)

    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """Deal the blocks out at a meeting."""
        size = self._comm.size

        def deal(values: list[Array]) -> Sequence[Array]:
            table = np.concatenate(values).reshape(size, size, -1)  # [from, to, block]
            return list(np.ascontiguousarray(table.transpose(1, 0, 2)).reshape(size, -1))

        return self._pending(call, x, deal, x.size, False)

    def barrier(self, call: Signature) -> Pending:
        """Meet."""
        return self._pending(call, np.zeros(1, np.uint8), lambda values: values, 1, False)


def _unsealing(
    call: Signature, comm: VirtualComm, combine: Combine
) -> Callable[[list[Sealed]], Sequence[Array]]:
    """Return `combine` of arrays that are the same as when they were sent."""

    def unseal(values: list[Sealed]) -> Sequence[Array]:
        for rank, (data, told) in enumerate(values):
            if checksum(data) != told:
                raise corruption(call.operation, comm, rank)
        return combine([value.data for value in values])

    return unseal
