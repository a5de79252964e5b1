"""Threads that ranks start: each is the rank that started it.

It has that rank's context variables, its lines of output bear that rank's number, and what it imports
and pickles is found in that rank's modules, although another rank may have its turn meanwhile.
"""

from __future__ import annotations

import builtins
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from tpsim.comm.virtual.data.pickling import Pickle

if TYPE_CHECKING:
    from tpsim.script.interpreter import Interpreter

here: ContextVar[tuple[Interpreter, int] | None] = ContextVar("tpsim_script_rank", default=None)
"""Of which program's ranks, and which of them, the running code is."""

_FIND_MODULES = [(builtins, "__import__")] + [
    (Pickle, name) for name in ("dumps", "loads", "dumps_oob", "loads_oob")
]
_users = 0  # programs that run
_replaced: list[tuple[Any, str, Any]] = []


def rank_here() -> int | None:
    """Return which rank of a program the running code is; None where it is of no program."""
    found = here.get()
    return None if found is None else found[1]


@contextmanager
def inherit_rank() -> Iterator[None]:
    """Let threads that are started inside be the rank that starts them."""
    global _users
    _users += 1
    if _users == 1:
        _replace(threading.Thread, "start", _starting_as_rank)
    try:
        yield
    finally:
        _users -= 1
        while _users == 0 and _replaced:
            owner, name, value = _replaced.pop()
            setattr(owner, name, value)


def _replace(owner: Any, name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    _replaced.append((owner, name, getattr(owner, name)))
    setattr(owner, name, by(getattr(owner, name)))


def _starting_as_rank(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def started(thread: threading.Thread) -> None:
        if here.get() is not None:
            thread.run = partial(contextvars.copy_context().run, thread.run)  # type: ignore[method-assign]
            if len(_replaced) == 1:  # the first: what follows costs each call a little
                for owner, name in _FIND_MODULES:
                    _replace(owner, name, _finding_modules_of_rank)
        start(thread)

    return started


def _finding_modules_of_rank(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **options: Any) -> Any:
        found = here.get()
        if found is None:
            return call(*args, **options)
        interpreter, rank = found
        if threading.get_ident() == interpreter.thread:
            with interpreter.gate:  # not while another thread has its own modules in place
                return call(*args, **options)
        with interpreter.modules_of(rank):
            return call(*args, **options)

    return called
