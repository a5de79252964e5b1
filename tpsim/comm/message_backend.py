"""Collectives by the hand-written algorithms, message by message, on any communicator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, repeat
from typing import Any

import numpy as np

from tpsim.comm.agreement import agree
from tpsim.comm.algorithms import Steps, get, pairwise
from tpsim.comm.algorithms.chunks import bounds, split
from tpsim.comm.algorithms.port import Port
from tpsim.comm.backend import UFUNCS, Array, Backend, Pending
from tpsim.comm.errors import CollectiveMismatchError, CommError, CorruptionError, TruncationError
from tpsim.comm.port import CommPort
from tpsim.comm.signature import Signature
from tpsim.comm.wire import CheckedPort

TAGS = 1 << 14
"""A collective's tag is used again after so many of them."""


class StepsPending(Pending):
    """A generator that yields the requests it waits for, and the buffer that holds the result at its end.

    Parameters
    ----------
    line : list of StepsPending
        Those of the group that are under way, in the order in which they began, the same on every rank.
        A collective's steps need every rank, and ranks may wait for their handles in different orders:
        whoever waits takes the steps of those before it, too.
    """

    counted = True

    def __init__(
        self,
        steps: Steps,
        result: Array,
        sent: Callable[[], tuple[int, int]],
        line: list[StepsPending] | None = None,
    ) -> None:
        self._steps = steps
        self._result = result
        self._sent = sent
        self._line: list[StepsPending] = [] if line is None else line
        self._requests: tuple[Any, ...] = ()
        self._begun = False
        self._over = False
        self._error: CommError | None = None

    def sent(self) -> tuple[int, int]:
        """Return what was sent so far."""
        return self._sent()

    def start(self) -> None:
        """Take the first step."""
        self._enter_line()

    def _enter_line(self) -> None:
        self._begun = True
        self._line.append(self)
        self._go(wait=False, steps=1)

    def wait(self) -> Array:
        """Take the remaining steps, waiting at each."""
        if not self._begun:
            self._enter_line()
        while not self._over:
            self._line[0]._go(wait=True)
        return self._outcome()

    def test(self) -> bool:
        """Take the steps whose requests are complete."""
        for pending in tuple(self._line):
            pending._go(wait=False)
        self._outcome()
        return self._over

    def _outcome(self) -> Array:
        if self._error is not None:
            raise self._error
        return self._result

    def _go(self, *, wait: bool, steps: int | None = None) -> None:
        """Take steps to the end, or as many, or until a request is not complete. An error is kept."""
        try:
            for _ in repeat(None) if steps is None else range(steps):
                done = [request.Wait() if wait else request.Test() for request in self._requests]
                if not all(done):
                    return
                self._requests = next(self._steps)
        except StopIteration:
            self._end(None)
        except (CollectiveMismatchError, TruncationError, CorruptionError) as error:
            self._end(error)  # its own `wait` tells, not that of a later one

    def _end(self, error: CommError | None) -> None:
        self._over, self._error = True, error
        self._line.remove(self)


class MessageBackend(Backend):
    """The named algorithm on send and receive.

    With `check`, ranks first agree on what they call; with `checksums`, one follows every message.
    """

    counted = True

    def __init__(self, comm: Any, algorithm: str, *, check: bool, checksums: bool = False) -> None:
        self._comm = comm
        self._algorithm = get(algorithm)
        self._check = check
        self._checksums = checksums
        self._numbers = count()
        self._line: list[StepsPending] = []

    def _begin(self, call: Signature, result: Array, steps: Callable[[Port], Steps]) -> Pending:
        tag, damage = next(self._numbers) % TAGS, self.take_damage()
        port = CommPort(self._comm, tag)
        way: Port = port
        if self._checksums or damage is not None:
            way = CheckedPort(port, self._comm, tag, call.operation, check=self._checksums, seed=damage)

        def checked() -> Steps:
            if self._check:
                yield from agree(self._comm, call)
            yield from steps(way)

        return StepsPending(checked(), result, port.sent, self._line)

    def _blocks(self, buffer: Array) -> list[Array]:
        return split(buffer, bounds(buffer.size, self._comm.size))

    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """Reduce in a copy."""
        buffer = x.copy()
        op = UFUNCS[call.reduction]
        return self._begin(call, buffer, lambda port: self._algorithm.all_reduce(port, buffer, op))

    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """Reduce in a copy; only the own block of it is kept."""
        blocks = self._blocks(x.copy())
        own = blocks[self._comm.rank]
        op = UFUNCS[call.reduction]
        return self._begin(call, own, lambda port: self._algorithm.reduce_scatter(port, blocks, op))

    def all_gather(self, call: Signature, x: Array) -> Pending:
        """Gather around the own block."""
        buffer = np.empty(x.size * self._comm.size, x.dtype)
        blocks = self._blocks(buffer)
        np.copyto(blocks[self._comm.rank], x)
        return self._begin(call, buffer, lambda port: self._algorithm.all_gather(port, blocks))

    def broadcast(self, call: Signature, x: Array) -> Pending:
        """Fill a copy from the root's."""
        buffer, root = x.copy(), call.place or 0
        return self._begin(call, buffer, lambda port: self._algorithm.broadcast(port, buffer, root))

    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """Exchange blocks in pairs."""
        buffer = np.empty_like(x)
        outgoing, incoming = self._blocks(x), self._blocks(buffer)
        return self._begin(call, buffer, lambda port: pairwise.all_to_all(port, outgoing, incoming))

    def barrier(self, call: Signature) -> Pending:
        """All-reduce one byte: nobody has the result before everybody has called."""
        buffer = np.zeros(1, np.uint8)
        return self._begin(call, buffer, lambda port: self._algorithm.all_reduce(port, buffer, np.maximum))
