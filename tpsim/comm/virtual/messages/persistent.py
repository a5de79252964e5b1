"""mpi4py's `Prequest`: a call that is prepared once, and begun again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from tpsim.comm.virtual.data.absent import leave_out
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.messages.calls import Call
from tpsim.comm.virtual.messages.request import Request

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class PersistentCall(Call):
    """A call that may be begun many times. Between its end and its next beginning it is inactive.

    Parameters
    ----------
    begin : callable
        Begins it: returns the call of this time.
    """

    __slots__ = ("_begin", "_now")

    persistent = True

    def __init__(self, world: World, rank: int, begin: Callable[[], Call]) -> None:
        super().__init__(world, rank, None)
        self._begin = begin
        self._now: Call | None = None

    def start(self) -> None:
        """Begin it."""
        if self._now is not None:
            raise error(
                "ERR_REQUEST", "Start: the call is under way already; wait for it before starting it again"
            )
        self._now = self._begin()
        self.completion = self._now.completion

    def fill(self, status: Any) -> None:
        """Say in a status what became of it this time."""
        if self._now is not None:
            self._now.fill(status)

    def end(self) -> Any:
        """End it for this time."""
        now, self._now, self.completion = self._now, None, None
        return None if now is None else now.end()

    def free(self) -> None:
        """Let the call of this time go its way."""
        if self._now is not None:
            self._now.free()

    def cancel(self) -> None:
        """Take it back for this time, if it can be."""
        if self._now is None:
            raise error("ERR_REQUEST", "Cancel: the call was not started; there is nothing to cancel")
        self._now.cancel()


@leave_out
class Prequest(Request):
    """A persistent request: `Start` begins its call, `Wait` ends it, until `Free`."""

    __slots__ = ()
    _state: PersistentCall | None

    def __new__(cls, request: Request | None = None) -> Self:
        """Return another handle of a persistent request."""
        if request and not isinstance(request, Prequest):
            raise TypeError(f"{cls.__name__}: {request!r} is not persistent; pass what Send_init … returned")
        return super().__new__(cls, request)

    def Start(self) -> None:
        """Begin the call."""
        call = self._call("Start")
        assert isinstance(call, PersistentCall)
        call.start()

    @classmethod
    def Startall(cls, requests: Sequence[Prequest]) -> None:
        """Begin the calls of all these requests."""
        for request in requests:
            request.Start()
