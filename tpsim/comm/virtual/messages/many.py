"""Waiting for several requests at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpsim.comm.virtual.completion import Several
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, UNDEFINED
from tpsim.comm.virtual.data.handles import MPIHandle
from tpsim.comm.virtual.data.status import Status, fill

if TYPE_CHECKING:
    from tpsim.comm.virtual.messages.request import Request

Requests = Sequence["Request"]
Statuses = Sequence[Any] | None


class ManyRequests(MPIHandle):
    """`Waitall`, `Waitany`, `Waitsome`, and their forms that test, that don't end, and that return objects.

    Null requests and persistent ones that were not started are done, but for those who ask which
    ones are they are not there.
    """

    __slots__ = ()

    # -- all ---------------------------------------------------------------------------------------------

    @classmethod
    def Waitall(cls, requests: Requests, statuses: Statuses = None) -> bool:
        """Wait for every request."""
        _wait_all(requests, statuses)
        return True

    @classmethod
    def waitall(cls, requests: Requests, statuses: Statuses = None) -> list[Any]:
        """Wait for every request; return their results."""
        return _wait_all(requests, statuses)

    @classmethod
    def Testall(cls, requests: Requests, statuses: Statuses = None) -> bool:
        """Tell whether every request is complete, and end them all if so."""
        if not _all_done(requests):
            return False
        _wait_all(requests, statuses)
        return True

    @classmethod
    def testall(cls, requests: Requests, statuses: Statuses = None) -> tuple[bool, list[Any] | None]:
        """Return (whether every request is complete, their results)."""
        if not _all_done(requests):
            return False, None
        return True, _wait_all(requests, statuses)

    @classmethod
    def Get_status_all(cls, requests: Requests, statuses: Statuses = None) -> bool:
        """Tell whether every request is complete, without ending any."""
        if not _all_done(requests):
            return False
        for request, status in zip(requests, _statuses(statuses, len(requests)), strict=True):
            request.fill(status)
        return True

    get_status_all = Get_status_all

    # -- any ---------------------------------------------------------------------------------------------

    @classmethod
    def Waitany(cls, requests: Requests, status: Any = None) -> int:
        """Wait for one of the requests; return which (UNDEFINED if there is none)."""
        return _wait_any(requests, status)[0]

    @classmethod
    def waitany(cls, requests: Requests, status: Any = None) -> tuple[int, Any]:
        """Wait for one of the requests; return (which, its result)."""
        return _wait_any(requests, status)

    @classmethod
    def Testany(cls, requests: Requests, status: Any = None) -> tuple[int, bool]:
        """Return (which request is complete, whether there is one)."""
        return _test_any(requests, status)[:2]

    @classmethod
    def testany(cls, requests: Requests, status: Any = None) -> tuple[int, bool, Any]:
        """Return (which request is complete, whether there is one, its result)."""
        return _test_any(requests, status)

    @classmethod
    def Get_status_any(cls, requests: Requests, status: Any = None) -> tuple[int, bool]:
        """Return (which request is complete, whether there is one), without ending it."""
        active = _active(requests)
        if not _some_done(active):
            return UNDEFINED, False
        if not active:
            fill(status, ANY_SOURCE, ANY_TAG, 0)
            return UNDEFINED, True
        index = next(index for index in active if requests[index].is_done())
        requests[index].fill(status)
        return index, True

    get_status_any = Get_status_any

    # -- some --------------------------------------------------------------------------------------------

    @classmethod
    def Waitsome(cls, requests: Requests, statuses: Statuses = None) -> list[int] | None:
        """Wait for at least one of the requests; return which are complete (None if there is none)."""
        return _wait_some(requests, statuses)[0]

    @classmethod
    def waitsome(
        cls, requests: Requests, statuses: Statuses = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """Wait for at least one of the requests; return (which are complete, their results)."""
        return _wait_some(requests, statuses)

    @classmethod
    def Testsome(cls, requests: Requests, statuses: Statuses = None) -> list[int] | None:
        """Return which requests are complete, perhaps none of them (None if there is none)."""
        return _test_some(requests, statuses)[0]

    @classmethod
    def testsome(
        cls, requests: Requests, statuses: Statuses = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """Return (which requests are complete, their results)."""
        return _test_some(requests, statuses)

    @classmethod
    def Get_status_some(cls, requests: Requests, statuses: Statuses = None) -> list[int] | None:
        """Return which requests are complete, without ending any."""
        active = _active(requests)
        if not active:
            return None
        _some_done(active)
        done = [index for index, request in active.items() if request.is_done()]
        for index, status in zip(done, _statuses(statuses, len(done)), strict=True):
            active[index].fill(status)
        return done

    get_status_some = Get_status_some


def _wait_all(requests: Requests, statuses: Statuses) -> list[Any]:
    wanted = _statuses(statuses, len(requests))
    return [request._wait(status) for request, status in zip(requests, wanted, strict=True)]


def _wait_any(requests: Requests, status: Any) -> tuple[int, Any]:
    active = _active(requests)
    _await_any(active)
    return _end_first(active, status)


def _test_any(requests: Requests, status: Any) -> tuple[int, bool, Any]:
    active = _active(requests)
    if not _some_done(active):
        return UNDEFINED, False, None
    index, result = _end_first(active, status)
    return index, True, result


def _wait_some(requests: Requests, statuses: Statuses) -> tuple[list[int] | None, list[Any] | None]:
    active = _active(requests)
    _await_any(active)
    return _end_some(active, statuses)


def _test_some(requests: Requests, statuses: Statuses) -> tuple[list[int] | None, list[Any] | None]:
    active = _active(requests)
    _some_done(active)
    return _end_some(active, statuses)


def _active(requests: Requests) -> dict[int, Request]:
    """Return the requests whose calls are under way or done, by their place."""
    return {
        index: request
        for index, request in enumerate(requests)
        if request._state is not None and request._state.completion is not None
    }


def _end_first(active: dict[int, Request], status: Any) -> tuple[int, Any]:
    if not active:
        fill(status, ANY_SOURCE, ANY_TAG, 0)
        return UNDEFINED, None
    index = next(index for index, request in active.items() if request.is_done())
    return index, active[index]._end(status)


def _end_some(active: dict[int, Request], statuses: Statuses) -> tuple[list[int] | None, list[Any] | None]:
    if not active:
        return None, None
    done = [index for index, request in active.items() if request.is_done()]
    wanted = _statuses(statuses, len(done))
    return done, [active[index]._end(status) for index, status in zip(done, wanted, strict=True)]


def _await_any(active: dict[int, Request]) -> None:
    if active and not any(request.is_done() for request in active.values()):
        world, rank, several = _together(active, any_of=True)
        try:
            world.wait(rank, several)
        finally:
            world.leave(several)


def _some_done(active: dict[int, Request]) -> bool:
    """Tell whether a request is done, or none is there; let other ranks run before a no."""
    return _poll(active, any_of=True) if active else True


def _all_done(requests: Requests) -> bool:
    """Tell whether every request is done; let other ranks run before a no."""
    return _poll({i: r for i, r in _active(requests).items() if not r.is_done()}, any_of=False)


def _poll(requests: dict[int, Request], *, any_of: bool) -> bool:
    over = any if any_of else all
    if not over(request.is_done() for request in requests.values()):
        world, rank, several = _together(requests, any_of=any_of)
        try:
            world.poll(rank, several)
        finally:
            world.leave(several)
    return over(request.is_done() for request in requests.values())


def _together(requests: dict[int, Request], *, any_of: bool) -> tuple[Any, int, Several]:
    calls = [request._call("Wait") for request in requests.values()]
    world = calls[0].world
    completions = [call.completion for call in calls if call.completion is not None]
    several = world.any_of(completions) if any_of else world.all_of(completions)
    return world, calls[0].rank, several


def _statuses(statuses: Statuses, count: int) -> list[Any]:
    """Return a status for each of `count` calls, None where none is wanted. A list that is short grows."""
    if statuses is None:
        return [None] * count
    if isinstance(statuses, list):
        statuses += [Status() for _ in range(count - len(statuses))]
    return [*statuses[:count], *[None] * (count - len(statuses))]
