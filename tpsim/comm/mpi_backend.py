"""Collectives by the MPI library itself: whichever algorithm it chooses, its bits and its speed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tpsim.comm.agreement import agree
from tpsim.comm.algorithms import Steps
from tpsim.comm.algorithms.closed_form import Sent, sent
from tpsim.comm.backend import Array, Backend, Pending
from tpsim.comm.message_backend import StepsPending
from tpsim.comm.signature import Signature


class MPIPending(StepsPending):
    """A call into MPI: the blocking one if nobody started it before `wait`.

    MPI has other algorithms for its non-blocking collectives, so that the two differ in speed and bits.
    """

    counted = False

    def __init__(
        self,
        checks: Steps,
        blocking: Callable[[], None],
        begin: Callable[[], Any],
        result: Array,
        cost: tuple[int, int],
    ) -> None:
        self._checks = checks
        self._blocking = blocking
        self._begin = begin
        self._started = False
        super().__init__(self._call(), result, lambda: cost)

    def _call(self) -> Steps:
        yield from self._checks
        if self._started:
            yield (self._begin(),)
        else:
            self._blocking()

    def start(self) -> None:
        """Begin the agreement, or the non-blocking call where none is needed."""
        self._started = True
        super().start()


class MPIBackend(Backend):
    """MPI's own collectives. What is sent is not known: the ring's figures stand in, as for bus bandwidth."""

    counted = False

    def __init__(self, comm: Any, *, check: bool) -> None:
        self._comm = comm
        self._check = check

    def _pending(self, call: Signature, name: str, result: Array, count: int, *arguments: Any) -> Pending:
        comm, cost = self._comm, Sent(0, 0)
        if call.operation != "barrier":
            cost = sent(call.operation, "mpi", comm.rank, comm.size, count, call.place or 0)
        return MPIPending(
            agree(comm, call) if self._check else iter(()),
            lambda: getattr(comm, name)(*arguments),
            lambda: getattr(comm, f"I{name.lower()}")(*arguments),
            result,
            (cost.messages, cost.elements * result.itemsize),
        )

    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """MPI_Allreduce."""
        op, result = _op(call.reduction, x.dtype), np.empty_like(x)
        return self._pending(call, "Allreduce", result, x.size, x, result, op)

    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """MPI_Reduce_scatter_block."""
        op, own = _op(call.reduction, x.dtype), np.empty(x.size // self._comm.size, x.dtype)
        return self._pending(call, "Reduce_scatter_block", own, x.size, x, own, op)

    # What is only moved travels as bytes, so that any dtype can.

    def all_gather(self, call: Signature, x: Array) -> Pending:
        """MPI_Allgather."""
        whole = np.empty(x.size * self._comm.size, x.dtype)
        return self._pending(call, "Allgather", whole, whole.size, x.view(np.uint8), whole.view(np.uint8))

    def broadcast(self, call: Signature, x: Array) -> Pending:
        """MPI_Bcast."""
        result = x.copy()
        return self._pending(call, "Bcast", result, x.size, result.view(np.uint8), call.place or 0)

    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """MPI_Alltoall."""
        result = np.empty_like(x)
        return self._pending(call, "Alltoall", result, x.size, x.view(np.uint8), result.view(np.uint8))

    def barrier(self, call: Signature) -> Pending:
        """MPI_Barrier."""
        return self._pending(call, "Barrier", np.empty(0), 0)


@cache
def _op(reduction: str, dtype: np.dtype[Any]) -> Any:
    """Return MPI's name of a reduction.

    Raises
    ------
    TypeError
        If MPI can't reduce this dtype: tried out alone, before anybody waits for anybody.
    """
    from mpi4py import MPI

    op = {"sum": MPI.SUM, "max": MPI.MAX, "min": MPI.MIN}[reduction]
    try:
        MPI.COMM_SELF.Allreduce(np.zeros(1, dtype), np.zeros(1, dtype), op)
    except Exception as error:
        raise TypeError(
            f'algorithm "mpi": the MPI library has no {reduction} of {dtype}; make the group with a '
            'hand-written algorithm, such as "ring", or convert the array'
        ) from error
    return op
