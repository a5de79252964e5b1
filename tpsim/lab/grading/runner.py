"""Running a submission in a sandbox: its ranks compute there, and their collectives are carried out here.

Here are virtual ranks, as for any run; each has a process call the submission's functions, and makes the
calls of the group that this asks for. So traces, deadlocks and disagreements are those of an ordinary run,
and the submission has no part in counting them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tpsim.comm import Group, Handle, run
from tpsim.lab.checking.exercise import Exercise
from tpsim.lab.checking.run import Call, Ran, RankRun, frozen, held, matmul, on_rank
from tpsim.lab.checking.stop import Stop, stopped
from tpsim.lab.grading.errors import from_line, raise_again, where
from tpsim.lab.grading.host import Host, HostLostError
from tpsim.lab.grading.sandbox.wire import Tree, WireError
from tpsim.lab.grading.talk import GoneError, Patience, Talk
from tpsim.trace import Trace

_OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send", "recv")
_METHODS = frozenset({*_OPERATIONS, *(f"i{name}" for name in _OPERATIONS), "barrier", "split", "neighbours"})
_STOPPING = 1.0  # seconds that a rank has for unwinding
_MOST_WORK = 1 << 25  # multiplications of one rank in one run
_PRINTED = 2000  # bytes of a report


class SandboxRunner:
    """Runs one exercise of one submission in processes of its own: one a rank.

    Ranks share nothing there, so that a sum can't pass from one to another but by a collective.

    Parameters
    ----------
    host : Host
    path : Path
        The submission's file, alone with what it may read in a folder below `host.scratch`.
    exercise : Exercise

    Attributes
    ----------
    gone : str
        Why the submission's process could not go on; "" as long as it can. Nothing is run any more then.
    """

    def __init__(self, host: Host, path: Path, exercise: Exercise) -> None:
        self.gone = ""
        self._host = host
        self._path = path
        self._exercise = exercise
        self._patience = Patience(host.limits)
        self._talks: dict[int, Talk] = {}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._read = 0  # of what it printed
        self._refused: Stop | None = None  # why its file could not be loaded

    def __enter__(self) -> SandboxRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all ranks."""
        for talk in self._talks.values():
            with suppress(HostLostError):
                talk.close()
        self._talks.clear()
        self._output.close()

    def __call__(self, calls: Sequence[Call], given: Sequence[Mapping[str, Any]]) -> Ran:
        """Run the calls in order on as many ranks as `given` is long."""
        ran = Ran([RankRun() for _ in given])
        errors: list[BaseException] = []

        def main(comm: Any) -> None:
            conversation = _Conversation(Group(comm), self._talk(comm.rank), str(self._path))
            functions = {call.function: partial(conversation.call, call.function) for call in calls}
            with Trace(kernels=True) as trace, held(errors, comm.rank):
                on_rank(
                    calls,
                    functions,
                    {name: frozen(value) for name, value in given[comm.rank].items()},
                    conversation.group,
                    ran.ranks[comm.rank],
                    trace.collectives,
                    trace.kernels,
                )

        ran.stop = self._refused
        if self.gone:
            ran.stop = Stop("stopped", self.gone)
        if ran.stop is None:
            try:
                self._talk(0)
                run(main, len(given))
            except GoneError as gone:
                self.gone = str(gone)
                ran.stop = Stop("stopped", self.gone)
            except Exception as error:
                errors.append(error)
            if errors and not self.gone:
                ran.stop = stopped(errors[0], str(self._path))
            ran.printed = self._printed()
        return ran

    def _talk(self, rank: int) -> Talk:
        """Return the conversation with a rank, which is started if need be."""
        talk = self._talks.get(rank)
        if talk is None or talk.closed:
            talk = Talk(self._host, *self._host.start(self._path, self._output.fileno()), self._patience)
            self._talks[rank] = talk
            exercise = self._exercise
            talk.say({"do": "load", "functions": exercise.functions, "allowed": list(exercise.allowed)})
            loaded = talk.hear()
            if loaded.get("do") not in ("return", "raise"):
                raise GoneError("what came from its process was not an answer")
            if loaded["do"] == "raise":
                try:
                    raise_again(_checked(loaded, "type", "text"), str(self._path))
                except Exception as error:
                    self._refused = stopped(error, str(self._path))
                    raise
        talk.begin()
        return talk

    def _printed(self) -> str:
        """Return what was printed since the last time."""
        data = os.pread(self._output.fileno(), _PRINTED, self._read)
        self._read = os.fstat(self._output.fileno()).st_size
        return data.decode(errors="replace")


class _Conversation:
    """One rank of one run: passes calls on, and does what is asked for meanwhile."""

    def __init__(self, group: Group, talk: Talk, path: str) -> None:
        self.group = group
        self._talk = talk
        self._path = path
        self._groups = [group]
        self._handles: list[Handle] = []
        self._work = 0  # multiplications of matmul, at most

    def call(self, function: str, *arguments: Any) -> Any:
        """Have the submission's function called, and return its result."""
        self._say({"do": "call", "function": function, "args": list(arguments)})
        while True:
            told = self._talk.hear(self._made)
            if told.get("do") == "return":
                return _checked(told, "value")["value"]
            if told.get("do") == "raise":
                raise_again(_checked(told, "type", "text"), self._path)
            act = self._asked(told)
            try:
                value = from_line(self._path, *where(told), act)
            except GoneError:
                raise
            except BaseException:  # this rank's own mistake, or another rank failed: neither goes on
                self._stop()
                raise
            if isinstance(value, Handle):
                self._handles.append(value)
                value = len(self._handles) - 1
            self._say({"do": "answer", "value": value})

    def _asked(self, told: dict[str, Any]) -> Callable[[], Any]:
        """Return what a rank asks for, as a call with nothing of ours between: so errors name its line."""
        if told.get("do") in ("wait", "test"):
            handle = self._made({"handle": _checked(told, "handle")["handle"]})
            return handle.wait if told["do"] == "wait" else handle.test
        if told.get("do") == "matmul":
            return partial(self._matmul, *_checked(told, "args")["args"])
        if told.get("do") == "matmul":
            return partial(self._matmul, *_checked(told, "args")["args"])
        told = _checked(told, "do", "group", "method", "args", "kwargs")
        method, named = told["method"], told["kwargs"]
        if told["do"] != "group" or method not in _METHODS or "out" in named or not all(map(_is_name, named)):
            raise GoneError("what came from its process was not a request of a group")
        group = self._groups[told["group"] % len(self._groups)]
        return partial(getattr(group, method), *told["args"], **named)

    def _matmul(self, *factors: Any) -> Any:
        """Multiply, within limits: it is our time and memory."""
        self._work += math.prod(getattr(factor, "size", 1) for factor in factors)
        if self._work > _MOST_WORK:
            raise GoneError("it asked for matrix products that are far larger than the exercise's")
        return matmul(*factors)

    def _stop(self) -> None:
        """Have the rank leave the function it is in."""
        self._talk.stop(_STOPPING)

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._talk.say(message, self._said)
        except WireError as error:
            raise GoneError(f"it asked for what can't be sent to it: {error}") from None

    def _said(self, value: Any) -> Tree | None:
        if isinstance(value, Group):
            if value not in self._groups:
                self._groups.append(value)
            return {"group": [self._groups.index(value), value.rank, value.size, value.name, value.algorithm]}
        if isinstance(value, Handle):
            return {"handle": self._handles.index(value)}
        return {"function": "matmul"} if value is matmul else None

    def _made(self, tree: Tree) -> Handle:
        number = tree["handle"]
        if number not in range(len(self._handles)):
            raise GoneError("what came from its process was a handle that it never got")
        handle: Handle = self._handles[number]
        return handle


def _is_name(key: Any) -> bool:
    return isinstance(key, str)


_TYPES = {"type": str, "text": str, "group": int, "method": str, "args": tuple, "kwargs": dict, "handle": int}


def _checked(told: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a message that has these entries, of the right types."""
    if any(name not in told or not isinstance(told[name], _TYPES.get(name, object)) for name in names):
        raise GoneError("what came from its process was not a message of the grader's")
    return told
