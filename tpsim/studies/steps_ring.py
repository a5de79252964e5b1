"""The ring all-reduce, watched from inside: whose parts each rank has added up, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.algorithms import ring
from tpsim.comm.port import CommPort

_TAG = 1  # of a communicator that nobody else sends on


@dataclass
class RingSteps:
    """One rank's side of the ring.

    Attributes
    ----------
    states : list of [chunk] sets of ranks
        Whose parts each chunk is the sum of: before the first step, and after each one.
    sent : list of int
        The chunk that this rank sends in each step.
    """

    states: list[list[set[int]]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class _WatchedPort(CommPort):
    """A port that notes, step by step, what is in `buffer` and which entry of it is sent."""

    def __init__(self, comm: Any, buffer: NDArray[Any], steps: RingSteps) -> None:
        super().__init__(comm, _TAG)
        self._buffer, self._steps = buffer, steps

    def recv(self, buffer: NDArray[Any], source: int) -> Any:
        """Note the state: a step begins with its receive, which may fill `buffer` at once."""
        self._steps.states.append(_parts(self._buffer))
        return super().recv(buffer, source)

    def send(self, buffer: NDArray[Any], to: int) -> Any:
        """Note the chunk."""
        chunks = range(self._buffer.size)
        self._steps.sent += [c for c in chunks if np.shares_memory(buffer, self._buffer[c : c + 1])]
        return super().send(buffer, to)


def watch_ring(comm: Any) -> RingSteps:
    """All-reduce a vector of an entry a rank by the library's own ring, and look in between its steps.

    Rank r's numbers are all 2^r, so that a sum tells whose parts it holds: 6 = 2 + 4 is ranks 1 and 2.
    """
    comm = comm.Dup()
    steps, buffer = RingSteps(), np.full(comm.size, 2.0**comm.rank)
    requests: Any
    for requests in ring.all_reduce(_WatchedPort(comm, buffer, steps), buffer, np.add):
        for request in requests:
            request.Wait()
    steps.states.append(_parts(buffer))
    comm.Free()
    return steps


def _parts(buffer: NDArray[Any]) -> list[set[int]]:
    return [{r for r in range(buffer.size) if int(value) >> r & 1} for value in buffer]
