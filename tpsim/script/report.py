"""What is printed of a rank that failed: the program's own lines, and which rank it was."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import TypeVar

from tpsim.comm.errors import CollectiveMismatchError, CommError, Crash, DeadlockError, UnfinishedError
from tpsim.comm.mpi_errors import MPIException
from tpsim.script.timeout import JobTimeout
from tpsim.script.whereabouts import COMM, SCRIPT, on_the_way

E = TypeVar("E", bound=BaseException)

_TELLS_ALL = (CollectiveMismatchError, DeadlockError, UnfinishedError)  # each rank's line, and what to do
_TELLS_WHY = (CommError, Crash, MPIException, NotImplementedError, ValueError)


def report(error: BaseException) -> str:
    """Return the text of an error as Python prints it, without the frames of tpsim that lead to it."""
    if isinstance(error, JobTimeout):
        return f"{error}\n"
    if isinstance(error, _TELLS_ALL):
        return f"{type(error).__name__}: {error}\n"
    whole = traceback.TracebackException.from_exception(error)
    errors: list[traceback.TracebackException | None] = [whole]
    raised: list[BaseException | None] = [error]
    while errors:
        one, its = errors.pop(), raised.pop()
        if one is None or its is None:
            continue
        one.stack = traceback.StackSummary.from_list(_program_lines(one.stack, its))
        errors += [one.__cause__, one.__context__]
        raised += [its.__cause__, its.__context__]
    return "".join(whole.format())


def without_plumbing(error: E) -> E:
    """Return `error` without the frames of tpsim's communication and of its way to the program."""
    links: list[TracebackType] = []
    link = error.__traceback__
    while link is not None:
        if not on_the_way(link.tb_frame.f_code.co_filename):
            links.append(link)
        link = link.tb_next
    chain: TracebackType | None = None
    for link in reversed(links):
        chain = TracebackType(chain, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return error.with_traceback(chain) if links else error


def _program_lines(stack: traceback.StackSummary, error: BaseException) -> list[traceback.FrameSummary]:
    frames = list(stack)
    while frames and on_the_way(frames[0].filename):
        frames.pop(0)
    hidden = (SCRIPT, COMM) if isinstance(error, _TELLS_WHY) else (SCRIPT,)
    return [frame for frame in frames if not frame.filename.startswith(hidden)]
