"""The controller's side: starts contenders, tells them what to do, and ends them."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing.connection import Connection, Listener
from types import TracebackType
from typing import IO, Any

from tpsim.studies.bench.contenders import Contender
from tpsim.studies.bench.worker import ADDRESS, KEY, NAME, Span

_PATIENCE = 60.0  # seconds in which a worker has to call
_ANSWER = 300.0  # in which it has to do what it is told
_GRACE = 5.0
_CALLERS = 64  # that may call at the same moment


class BenchError(Exception):
    """A contender that could not do what it was told."""


class Crew:
    """Contenders whose workers sleep until they are told something. To be used in a `with` statement.

    Parameters
    ----------
    contenders : sequence of Contender

    Raises
    ------
    BenchError
        If a worker ends before it has called, or fails at what it is told: with its own last words.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self.contenders = {contender.name: contender for contender in contenders}
        self._connections: dict[str, list[Connection[Any, Any]]] = defaultdict(list)
        self._processes: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []
        self._seconds: dict[Connection[Any, Any], float] = {}
        key = secrets.token_bytes(16)
        self._listener = Listener(backlog=_CALLERS, authkey=key)
        self._environment = {ADDRESS: str(self._listener.address), KEY: key.hex()}

    def __enter__(self) -> Crew:
        try:
            for contender in self.contenders.values():
                self._start(contender)
            self._gather()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    @property
    def cpu_seconds(self) -> float:
        """What the contenders' workers have used of the cores, up to what each said last."""
        return sum(self._seconds.values())

    def tell(self, name: str, *order: Any) -> list[Any]:
        """Give every rank of a contender an order (see `worker.serve`); return each rank's result."""
        connections = self._connections[name]
        try:
            for connection in connections:
                connection.send(order)
            answers = [self._answer(name, order[0], connection) for connection in connections]
        except (EOFError, OSError):
            raise BenchError(f"{name}: ended at {order[0]!r}; {self._last_words(name)}") from None
        results: list[Any] = []
        for connection, (how, found, *seconds) in zip(connections, answers, strict=True):
            if how == "failed":
                raise BenchError(f"{name}: failed at {order[0]!r}; it says: {found}")
            self._seconds[connection] = seconds[0]
            results += found
        return results

    def _answer(self, name: str, order: str, connection: Connection[Any, Any]) -> tuple[Any, ...]:
        if not connection.poll(_ANSWER):
            raise BenchError(
                f"{name}: no answer to {order!r} within {_ANSWER:.0f} s; try again with --quick, or when the "
                "machine is less busy"
            )
        answer: tuple[Any, ...] = connection.recv()
        return answer

    def time(self, name: str, key: str, steps: int, repeat: int, warm: bool) -> list[float]:
        """Return the seconds of each step: from the first rank's beginning until the last one is done."""
        ranks: list[list[Span]] = self.tell(name, "time", key, steps, repeat, warm)
        return [
            (max(end for _, end in spans) - min(began for began, _ in spans)) / repeat
            for spans in zip(*ranks, strict=True)
        ]

    def forget(self) -> None:
        """Let all contenders drop their tasks, and the memory of them."""
        for name in self.contenders:
            self.tell(name, "forget")

    # -- beginning and end ----------------------------------------------------------------------------

    def _start(self, contender: Contender) -> None:
        for addition in contender.copies:
            words = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end, with the process
            process = subprocess.Popen(
                contender.command,
                env={**os.environ, **self._environment, NAME: contender.name, **addition},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
            self._processes.append((contender.name, process, words))

    def _gather(self) -> None:
        """Wait until all workers have called."""
        called: queue.SimpleQueue[Connection[Any, Any]] = queue.SimpleQueue()
        expected = sum(contender.connections for contender in self.contenders.values())

        def accept() -> None:
            for _ in range(expected):
                called.put(self._listener.accept())

        threading.Thread(target=accept, daemon=True).start()
        deadline = time.monotonic() + _PATIENCE
        for _ in range(expected):
            connection = self._next(called, deadline)
            self._connections[connection.recv()].append(connection)

    def _next(self, called: queue.SimpleQueue[Connection[Any, Any]], deadline: float) -> Connection[Any, Any]:
        while True:
            try:
                return called.get(timeout=0.2)
            except queue.Empty:
                for name, process, _ in self._processes:
                    if process.poll() is not None:
                        raise BenchError(f"{name}: ended before it began; {self._last_words(name)}") from None
                if time.monotonic() > deadline:
                    raise BenchError(
                        f"workers: not all have called within {_PATIENCE:.0f} s; try again on a machine that "
                        "is less busy, or with --only"
                    ) from None

    def _last_words(self, name: str) -> str:
        time.sleep(0.2)  # they may still be on their way
        found = []
        for one, _, words in self._processes:
            if one == name:
                words.seek(0)
                found += words.read().decode(errors="replace").split("\n")
        text = [line for line in found if line.strip()]
        return f"it says: {text[-1].strip()}" if text else "it said nothing"

    def _end(self) -> None:
        for connections in self._connections.values():
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(("stop",))
                connection.close()
        self._listener.close()
        deadline = time.monotonic() + (_GRACE if self._connections else 0.0)
        for _, process, words in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()  # mpiexec ends its ranks
                process.wait()
            words.close()
