"""Why a submission did not come to its end: what was raised, on which of its lines, and what that means."""

from __future__ import annotations

import linecache
import re
import traceback
from dataclasses import dataclass
from pathlib import Path

from tpsim.comm import CollectiveMismatchError, CommError, DeadlockError, UnfinishedError
from tpsim.lab.checking.guard import ForbiddenError


class ResultError(Exception):
    """A function did not return as many things as it must."""


@dataclass(frozen=True)
class Stop:
    """What stopped a run, in words.

    Attributes
    ----------
    kind : str
        "not implemented", "input changed", "deadlock", "ranks disagree", "left unfinished", "forbidden",
        "shapes do not fit", "arguments", "results", or "exception".
    what : str
        What happened.
    why : str
        What it means, and what to do; "" where the error says it itself.
    line : str
        The submission's own line, "02_row_bias.py:31: y = …"; "" if it has no part in it.
    """

    kind: str
    what: str
    why: str = ""
    line: str = ""


def stopped(error: BaseException, path: str) -> Stop:
    """Say what an error means to who wrote the submission at `path`."""
    line = own_line(error, path)
    said = _by_rank(error, f"{type(error).__name__}: {error}")
    if isinstance(error, NotImplementedError):
        return Stop("not implemented", "it is not written yet", "replace `raise NotImplementedError`", line)
    if isinstance(error, ForbiddenError):
        return Stop("forbidden", str(error), line=line)
    if isinstance(error, ValueError) and re.search("read-only|WRITEABLE", str(error)):
        return Stop(
            "input changed",
            said,
            "what a function is given belongs to its caller, who still needs it; compute a new array: "
            "`y = y + b` rather than `y += b`",
            line,
        )
    if isinstance(error, CommError):
        return Stop(*_of_communication(error))
    if isinstance(error, ValueError | IndexError) and re.search(
        r"shape|dimension|matmul|broadcast", str(error)
    ):
        return Stop(
            "shapes do not fit",
            said,
            "print the shapes (`print(x.shape)`), and compare them with the docstring's",
            line,
        )
    if isinstance(error, ResultError):
        return Stop("results", str(error))
    if isinstance(error, TypeError) and not line:  # raised by the call itself
        return Stop("arguments", said, "keep the `def` lines as they were: they are called so")
    return Stop("exception", said, line=line)


def _of_communication(error: CommError) -> tuple[str, str, str]:
    text = str(error).replace("returned from main", "returned")
    if isinstance(error, DeadlockError):
        return "deadlock", text, _OF_SENDS if "send(" in text or "recv(" in text else _OF_COLLECTIVES
    if isinstance(error, CollectiveMismatchError):
        return "ranks disagree", text, "a collective is one operation of all ranks: they call the same one"
    if isinstance(error, UnfinishedError):
        return "left unfinished", text, "what was begun is only there once its handle's `wait()` has returned"
    return "exception", text, ""


_OF_COLLECTIVES = (
    "a collective returns only when every rank has called it: a rank that does not call it leaves the others "
    "waiting for ever"
)
_OF_SENDS = (
    "a send returns when its rank has received, a receive when its rank has sent: begin with `isend`, which "
    "does not wait, then receive, then `wait()` for what you sent"
)


def own_line(error: BaseException, path: str) -> str:
    """Return the innermost line of the submission that an error passed through."""
    name = Path(path).name
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{name}:{error.lineno}: {(error.text or '').strip()}"
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename == path:
            return f"{name}:{number}: {linecache.getline(path, number).strip()}"
    return ""


def _by_rank(error: BaseException, text: str) -> str:
    """Put in front which rank raised, as `tpsim.run` notes it."""
    for note in getattr(error, "__notes__", []):
        if found := re.search(r"raised by rank (\d+)", note):
            return f"rank {found[1]} raised {text}"
    return f"raised {text}"
