"""One rank of a submission: does what the grader asks for, and asks it for every collective.

A conversation of strict turns. The grader says `load`, `call` or `stop`; a call may ask for collectives
before it ends in `return` or `raise`.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tpsim.lab.checking.guard import load
from tpsim.lab.grading.sandbox.group import Group, Handle
from tpsim.lab.grading.sandbox.wire import Tree, pack, unpack

_MOST_TEXT = 1000
_MOST_FRAMES = 1 << 14


class _StoppedError(BaseException):
    """Another rank failed, so this one need not go on."""


class Rank:
    """A submission's rank in this process.

    Parameters
    ----------
    send : callable
        Sends bytes to the grader.
    receive : callable
        Returns so many bytes from it.
    path : Path
        The submission's file.
    """

    def __init__(
        self, send: Callable[[bytes], None], receive: Callable[[int], bytearray], path: Path
    ) -> None:
        self._send = send
        self._receive = receive
        self._path = str(path)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._handles: dict[int, Handle] = {}

    def serve(self) -> None:
        """Do what the grader asks for, until it hangs up."""
        while True:
            order = unpack(self._receive, self._made)
            try:
                answer = self._done(order)
            except _StoppedError:
                answer = {"do": "stopped"}
            except BaseException as error:  # also SystemExit: a submission does not end its own process
                answer = self._told(error)
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            self._send(self._packed(answer))

    def _done(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "load":
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002 - what a submission's np.random.rand draws from
            self._functions = load(Path(self._path), order["functions"], order["allowed"])
            return {"do": "return", "value": None}
        if order["do"] == "call":
            result = self._functions[order["function"]](*map(_frozen, order["args"]))
            sys.stdout.flush()  # here, where a failure still counts
            return {"do": "return", "value": result}
        raise _StoppedError

    def _ask(self, request: dict[str, Any]) -> Any:
        """Have the grader do something, and return its answer."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename != self._path:
            frame = frame.f_back
        self._send(pack({**request, "at": [frame.f_lineno, frame.f_code.co_name]}, self._said))
        answer = unpack(self._receive, self._made)
        if answer["do"] == "stop":
            raise _StoppedError
        return answer["value"]

    def _packed(self, answer: dict[str, Any]) -> bytes:
        try:
            return pack(answer, self._said)
        except Exception as error:
            return pack(self._told(error))

    def _told(self, error: BaseException) -> dict[str, Any]:
        """Return what the grader is told of an error."""
        line, name = _own_line(error.__traceback__, self._path)
        message = {"do": "raise", "type": type(error).__name__, "text": _text(error), "at": [line, name]}
        if isinstance(error, SyntaxError):
            message["at"] = [error.lineno or 0, "?"]
        return message

    def _said(self, value: Any) -> Tree | None:
        if type(value) is not Handle:
            return None
        self._handles[value.number] = value  # it may come back: from a forward to its backward
        return {"handle": value.number}

    def _made(self, tree: Tree) -> Any:
        if "group" in tree:
            return Group(self._ask, *tree["group"])
        if "function" in tree:
            return lambda *factors: self._ask({"do": tree["function"], "args": factors})
        return self._handles[tree["handle"]]


def _frozen(value: Any) -> Any:
    """Return a read-only array as one that can't be made writeable; other things as they are."""
    if not isinstance(value, np.ndarray) or value.flags.writeable:
        return value
    copy = value.copy()
    copy.flags.writeable = False
    return copy[...]


def _own_line(traceback: TracebackType | None, path: str) -> tuple[int, str]:
    """Return the innermost line of the submission that an error passed through."""
    found = 0, "?"
    for _ in range(_MOST_FRAMES):
        if traceback is None:
            break
        if traceback.tb_frame.f_code.co_filename == path:
            found = traceback.tb_lineno, traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    return found


_ADVICE = {
    1: "new processes and threads, sockets, signals to others: none of these are there when it is graded",
    13: "files other than its own can't be read when it is graded, and none can be written",
    27: "it printed or wrote more than is allowed when it is graded",
}
"""By errno: EPERM, EACCES, EFBIG."""


def _text(error: BaseException) -> str:
    """Return an error's own words; its `__str__` may be the submission's, and do anything."""
    if isinstance(error, SystemExit):
        return "it must return, and not end the program"
    if isinstance(error, MemoryError):
        return f"{error} (it used more memory than is allowed when it is graded)".strip()
    try:
        text = str(error)[:_MOST_TEXT]
    except BaseException:
        return "(without a message)"
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return f"{text} ({_ADVICE[error.errno]})"
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return f"{text} ({_ADVICE[1]})"
    return text
