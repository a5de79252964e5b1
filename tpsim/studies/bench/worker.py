"""A worker's side: a process that sleeps until it is told to time something.

It waits in `recv`, where it takes no time of anybody's: a rank that waits inside MPI would spin on its core.
Only the standard library is imported here: torch may live in another environment than tpsim.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from typing import Any

ADDRESS, KEY, NAME = "TPSIM_BENCH_ADDRESS", "TPSIM_BENCH_KEY", "TPSIM_BENCH_NAME"

Task = Callable[[], Any]
"""A step of what is timed."""
Program = Callable[..., Task]
"""Makes a task of its arguments."""
Order = tuple[Any, ...]
Span = tuple[float, float]
"""When a step began and ended, by a clock that all processes of the machine share."""


def connect() -> Connection[Any, Any]:
    """Call the crew that started this process, and say which contender it is part of."""
    connection = Client(os.environ[ADDRESS], authkey=bytes.fromhex(os.environ[KEY]))
    connection.send(os.environ[NAME])
    return connection


@contextmanager
def telling(connection: Connection[Any, Any]) -> Iterator[None]:
    """Tell the crew what went wrong before this process ends of it; end quietly when the crew is gone."""
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except BaseException as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        raise


def serve(
    take: Callable[[], Order],
    answer: Callable[[Any], None],
    programs: Mapping[str, Program],
    barrier: Callable[[], None],
) -> None:
    """Carry out orders until the one to stop.

    Parameters
    ----------
    take : callable
        Returns the next order, the same on every rank of the contender:
        ("prepare", key, program, arguments) makes a task, and returns the seconds of its second step;
        ("time", key, steps, repeat, warm) returns a `Span` a step, of `repeat` runs of the task each; with
        `warm`, after one that is not timed, which finds the caches as another contender left them;
        ("ask", key) returns what the task returns; ("forget",) drops all tasks; ("stop",).
    answer : callable
        Sends what an order returned.
    programs : mapping
        By name.
    barrier : callable
        Returns when all of the contender's ranks have called it.
    """
    tasks: dict[str, Task] = {}
    while True:
        match take():
            case ("prepare", key, program, arguments):
                tasks[key] = programs[program](**arguments)
                ((began, ended),) = _spans(tasks[key], 1, 1, True, barrier)
                answer(ended - began)
            case ("time", key, steps, repeat, warm):
                answer(_spans(tasks[key], steps, repeat, warm, barrier))
            case ("ask", key):
                answer(tasks[key]())
            case ("forget",):
                tasks.clear()
                answer(None)
            case ("stop",):
                return
            case order:
                raise ValueError(f"{order!r} is no order; send one of those that `serve` describes")


def _spans(task: Task, steps: int, repeat: int, warm: bool, barrier: Callable[[], None]) -> list[Span]:
    if warm:
        task()
    spans = []
    for _ in range(steps):
        barrier()
        began = time.perf_counter()
        for _ in range(repeat):
            task()
        spans.append((began, time.perf_counter()))
    return spans
