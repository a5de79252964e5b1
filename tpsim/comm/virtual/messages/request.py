"""mpi4py's `Request`: a handle of a call that was begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import constant
from tpsim.comm.virtual.data.status import fill
from tpsim.comm.virtual.messages.calls import Call
from tpsim.comm.virtual.messages.many import ManyRequests

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Request(ManyRequests):
    """A call that was begun. `Wait` (or `wait`, for the object forms) ends it; the request is null then.

    While it is not done, `Test` and its like let other ranks run, so that a polling loop makes progress.
    """

    __slots__ = ()
    _state: Call | None

    @classmethod
    def begun(
        cls, world: World, rank: int, completion: Completion, result: Callable[[], Any] | None = None
    ) -> Self:
        """Return a request for what world rank `rank` has begun; `result` gives what it got, or raises."""
        return cls._of(Call(world, rank, completion, result))

    def Wait(self, status: Any = None) -> bool:
        """Return when the call is complete."""
        self._wait(status)
        return True

    def wait(self, status: Any = None) -> Any:
        """Return the call's result when it is complete."""
        return self._wait(status)

    def _wait(self, status: Any) -> Any:
        call = self._state
        if call is not None and call.completion is not None and not call.completion.done:
            call.world.wait(call.rank, call.completion)
        return self._end(status)

    def Test(self, status: Any = None) -> bool:
        """Tell whether the call is complete."""
        return self._test(status)[0]

    def test(self, status: Any = None) -> tuple[bool, Any]:
        """Return (whether the call is complete, its result)."""
        return self._test(status)

    def _test(self, status: Any) -> tuple[bool, Any]:
        if not self.is_done():
            self._poll()
        return (True, self._end(status)) if self.is_done() else (False, None)

    def Get_status(self, status: Any = None) -> bool:
        """Tell whether the call is complete, without ending it."""
        if not self.is_done():
            self._poll()
        if not self.is_done():
            return False
        self.fill(status)
        return True

    get_status = Get_status

    def Cancel(self) -> None:
        """Take the call back, if it can be: a receive to which nothing came, a message nobody received."""
        self._call("Cancel").cancel()

    cancel = Cancel

    def Free(self) -> None:
        """Let the call go its way; nobody waits for it."""
        self._call("Free").free()
        self._state = None

    # -- for requests that are waited for together -------------------------------------------------------

    def is_done(self) -> bool:
        """Tell whether `Wait` would return at once."""
        return self._state is None or self._state.done

    def fill(self, status: Any) -> None:
        """Fill in the status of a call that is done."""
        call = self._state
        if call is None or call.completion is None:
            fill(status, ANY_SOURCE, ANY_TAG, 0)
        else:
            call.fill(status)

    def _end(self, status: Any) -> Any:
        """End a call that is done: return its result, and be null, or inactive where it is persistent."""
        call = self._state
        if call is None or call.completion is None:
            fill(status, ANY_SOURCE, ANY_TAG, 0)
            return None
        if status is not None or call.always_tells:
            call.fill(status)
        if not call.persistent:
            self._state = None
        return call.end()

    def _poll(self) -> None:
        call = self._call("Test")
        assert call.completion is not None
        call.world.poll(call.rank, call.completion)

    def _call(self, name: str) -> Call:
        if self._state is None:
            raise error(
                "ERR_REQUEST", f"{name}: this request is null: its call is over; begin another one first"
            )
        return self._state


REQUEST_NULL = constant("REQUEST_NULL", Request())
