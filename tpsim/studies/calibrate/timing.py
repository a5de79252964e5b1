"""Timing calls on all ranks at once, on a machine that does other things as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Clock = Callable[[], float]
_FINE = 1e-6  # seconds
_KEPT = 32 << 20  # bytes
Call = Callable[[int], Any]
"""What is timed; it gets a running number, by which it can take other operands each time."""


wall: Clock = time.perf_counter
own: Clock = time.thread_time if time.get_clock_info("thread_time").resolution < _FINE else wall
"""The time that the processor spends on this thread: what else runs on the machine does not count.

Windows knows it too coarsely; there it is the wall's."""


def seconds_of(
    calls: Sequence[Call], comm: Any, *, rounds: int, at_least: float = 5e-4, clock: Clock = own
) -> list[float]:
    """Return what each call takes while every rank makes it.

    Calls take turns, so that a busy moment of the machine is one for all of them. Ranks begin a turn
    together, and the slowest rank counts: that is whom a collective waits for. Results are kept for a
    while, as layers keep theirs for backward, so that the next ones are not written to the same place.

    Parameters
    ----------
    calls : sequence of callable
        The same on every rank.
    comm : VirtualComm or mpi4py.MPI.Comm
    rounds : int
        Turns of each call.
    at_least : float
        Seconds of a turn; a shorter call is repeated.
    clock : callable
        `own`, or `wall` for calls that wait for others.
    """
    repeats = _agreed([_repeats(call, comm, at_least) for call in calls], comm)
    turns = np.empty((rounds, len(calls)))
    kept: list[Any] = []
    for turn in range(rounds):
        for place in _rotated(len(calls), turn):
            call, repeat = calls[place], repeats[place]
            if sum(map(_nbytes, kept)) > _KEPT:
                kept.clear()
            comm.Barrier()
            began = clock()
            kept += [call(number) for number in range(repeat)]
            turns[turn, place] = (clock() - began) / repeat
    slowest = np.max(comm.allgather(quiet(turns)), axis=0)
    return [float(seconds) for seconds in slowest]


def quiet(turns: Any) -> Any:
    """Return the lower quartile over the first axis: of a quiet moment, but not of the luckiest one."""
    return np.quantile(turns, 0.25, axis=0)


def _repeats(call: Call, comm: Any, at_least: float) -> int:
    comm.Barrier()
    call(0)  # warms up
    began = time.perf_counter()
    call(1)
    return max(1, min(1000, round(at_least / max(time.perf_counter() - began, 1e-9))))


def _nbytes(result: Any) -> int:
    parts = result if isinstance(result, tuple) else (result,)
    return sum(getattr(part, "nbytes", 0) for part in parts)


def _agreed(repeats: list[int], comm: Any) -> list[int]:
    """Return the same numbers on every rank."""
    return [max(of_all) for of_all in zip(*comm.allgather(repeats), strict=True)]


def _rotated(count: int, turn: int) -> list[int]:
    first = turn % max(count, 1)
    return [*range(first, count), *range(first)]
