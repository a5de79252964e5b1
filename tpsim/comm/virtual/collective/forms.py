"""One description of a collective gives its blocking, its non-blocking and its persistent form."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from tpsim.comm.places import Mark, mark
from tpsim.comm.signature import Signature
from tpsim.comm.virtual.collective.watched import WatchedPart, watching
from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.endpoint import Endpoint
from tpsim.comm.virtual.meeting import Combine
from tpsim.comm.virtual.messages.calls import Call
from tpsim.comm.virtual.messages.persistent import PersistentCall, Prequest
from tpsim.comm.virtual.messages.request import Request

P = ParamSpec("P")
C = TypeVar("C", bound=Endpoint)


class Plan(NamedTuple):
    """A collective call, described: nothing has happened yet.

    `combine` takes all ranks' parts when the last rank has come. Then, and not before, buffers are
    read and written.
    """

    signature: Signature
    part: Any
    combine: Combine


Describe = Callable[Concatenate[C, str, P], Plan]
"""Describes a call: of a communicator, by a name (for messages, and to tell calls apart), with arguments."""

Blocking = Callable[Concatenate[C, P], None]
NonBlocking = Callable[Concatenate[C, P], Request]
Persistent = Callable[Concatenate[C, P], Prequest]


def forms(name: str, describe: Describe[C, P]) -> tuple[Blocking[C, P], NonBlocking[C, P], Persistent[C, P]]:
    """Return the methods `Name`, `Iname` and `Name_init` of a collective.

    They are different collectives: a rank that calls one does not meet a rank that calls another.
    """
    begins, prepares = f"I{name.lower()}", f"{name}_init"

    def blocking(self: C, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.together(*describe(self, name, *args, **kwargs))

    def nonblocking(self: C, /, *args: P.args, **kwargs: P.kwargs) -> Request:
        plan = describe(self, begins, *args, **kwargs)
        here = self._context
        here.calls += 1
        return Request._of(_begin(here, here.meets_id, here.calls, plan, mark(sys._getframe())))

    def persistent(self: C, /, *args: P.args, **kwargs: P.kwargs) -> Prequest:
        kwargs.pop("info", None)  # hints, none of which mean anything here
        if args and isinstance(args[-1], Info):
            args = args[:-1]  # type: ignore[assignment]
        return _prepare(self._context, describe(self, prepares, *args, **kwargs))

    signature = inspect.signature(describe)
    shown = signature.replace(parameters=[p for key, p in signature.parameters.items() if key != "call"])
    for method, title in ((blocking, name), (nonblocking, begins), (persistent, prepares)):
        _present(method, title, describe, shown)
    return blocking, nonblocking, persistent


def _begin(here: Context, place: int, number: int, plan: Plan, line: Mark) -> Call:
    """Join a meeting, the `number`-th at its place, without waiting for the others."""
    signature, part, combine = plan
    watch = WatchedPart(part, signature.operation, line) if here.world.check and part is not None else None
    if watch is not None:
        part.watch, combine = watch, watching(combine)
    meeting = here.world.meet(place, number, here.seat, signature, part, combine, line)
    call = Call(here.world, here.me, meeting, lambda: meeting.result_of(here.seat))
    call.watch = watch
    call.note(str(signature), line)
    return call


def _prepare(here: Context, plan: Plan) -> Prequest:
    """Return a request each of whose starts is a meeting.

    The calls that prepare such requests come in one order on all ranks, but not the starts: so each
    request has a place of its own to meet at.
    """
    place = here.world.communicator(here.key_of("persistent"), here.world.members[here.meets_id])
    starts = 0

    def begin() -> Call:
        nonlocal starts
        starts += 1
        return _begin(here, place, starts, plan, mark(sys._getframe()))

    return Prequest._of(PersistentCall(here.world, here.me, begin))


def _present(
    method: Callable[..., Any], title: str, describe: Callable[..., Any], signature: inspect.Signature
) -> None:
    """Let `help` show a method as if it had been written out."""
    wraps(describe)(method)
    del method.__wrapped__  # type: ignore[attr-defined]
    method.__name__ = title
    method.__qualname__ = f"{describe.__qualname__.rpartition('.')[0]}.{title}"
    method.__signature__ = signature  # type: ignore[attr-defined]
