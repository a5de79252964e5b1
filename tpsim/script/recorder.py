"""`--trace`: what each rank calls of its communicators and requests, and how long it takes."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

from tpsim.comm.virtual.comm import Intercomm, Intracomm
from tpsim.comm.virtual.messages.matched import MatchedMessage
from tpsim.comm.virtual.messages.persistent import Prequest
from tpsim.script.threads import rank_here
from tpsim.trace.chrome import write
from tpsim.trace.slices import COMMUNICATION, Slice

_CLASSES = (Intracomm, Intercomm, Prequest, MatchedMessage)
_HOMES = tuple(f"tpsim.comm.virtual.{home}" for home in ("messages", "collective", "communicators.making"))
_NUMBERS = ("dest", "source", "root", "tag", "sendtag", "recvtag")
_BUFFERS = ("buf", "sendbuf", "recvbuf")


class Recorder:
    """Records the calls of every rank of a program.

    Parameters
    ----------
    ranks : int
        How many.
    """

    def __init__(self, ranks: int) -> None:
        self._calls: list[list[Slice]] = [[] for _ in range(ranks)]
        self._inside: set[int] = set()  # ranks in a call, which may be made of others

    def write(self, path: Path) -> None:
        """Write a Chrome trace."""
        write(path, self._calls)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is called inside."""
        self._zero = time.perf_counter()
        replaced = [
            (kind, name, value)
            for kind in dict.fromkeys(kind for which in _CLASSES for kind in which.__mro__)
            for name, value in vars(kind).items()
            if kind.__module__.startswith(_HOMES) and not name.startswith("_")
        ]
        for kind, name, value in replaced:
            if isinstance(value, FunctionType):
                setattr(kind, name, self._recorded(value))
            elif isinstance(value, classmethod):
                setattr(kind, name, classmethod(self._recorded(value.__func__)))
        try:
            yield
        finally:
            for kind, name, value in replaced:
                setattr(kind, name, value)

    def _recorded(self, call: Any) -> Callable[..., Any]:
        names = list(inspect.signature(call).parameters)

        @functools.wraps(call)
        def recorded(*args: Any, **options: Any) -> Any:
            rank = rank_here()
            if rank is None or rank in self._inside:
                return call(*args, **options)
            self._inside.add(rank)
            start = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                end = time.perf_counter()
                self._inside.discard(rank)
                told = _telling({**dict(zip(names, args, strict=False)), **options})
                one = Slice(
                    row=COMMUNICATION,
                    name=call.__name__,
                    start=start - self._zero,
                    seconds=end - start,
                    args=told,
                )
                self._calls[rank].append(one)

        own: Any = recorded  # in a report of a deadlock, its frame is the call itself
        code = call.__code__
        own.__code__ = own.__code__.replace(co_name=code.co_name, co_filename=code.co_filename)
        return recorded


def _telling(given: dict[str, Any]) -> dict[str, int]:
    """Return those arguments of a call that a reader of the trace wants to see."""
    told = {name: int(given[name]) for name in _NUMBERS if isinstance(given.get(name), int)}
    for name in _BUFFERS:
        buffer = given.get(name)
        data = buffer[0] if isinstance(buffer, list | tuple) and buffer else buffer
        size = getattr(data, "nbytes", None)
        if isinstance(size, int):
            told.setdefault("bytes", size)
    return told
