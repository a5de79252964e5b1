"""mpi4py's `Request` on virtual ranks."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.constants import fill
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.meeting import Meeting

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Request:
    """A call that was begun. `Wait` (or `wait`, for the object forms) ends it.

    `finish` turns the completion into the call's result once it is done.
    """

    __slots__ = ("_finish", "_rank", "_world", "completion")

    def __init__(
        self,
        world: World,
        rank: int,
        completion: Completion,
        finish: Callable[[], Any] | None = None,
    ) -> None:
        self._world = world
        self._rank = rank
        self._finish = finish
        self.completion = completion

    def Wait(self, status: Any = None) -> bool:
        """Return when the call is complete."""
        self.wait(status)
        return True

    def wait(self, status: Any = None) -> Any:
        """Return the call's result when it is complete."""
        self._world.wait(self._rank, self.completion)
        return self._result(status)

    def Test(self, status: Any = None) -> bool:
        """Tell whether the call is complete; others run meanwhile, so a polling loop makes progress."""
        return self.test(status)[0]

    def test(self, status: Any = None) -> tuple[bool, Any]:
        """Return (whether the call is complete, its result)."""
        if not self.completion.done:
            self._world.poll(self._rank, self.completion)
        return (True, self._result(status)) if self.completion.done else (False, None)

    def _result(self, status: Any) -> Any:
        if isinstance(self.completion, Receive):
            settle(self.completion, status)
        if self._finish is None:
            return None
        result = self._finish()  # may raise, and then does so each time
        self._finish = None
        return result

    @classmethod
    def Waitall(cls, requests: Sequence[Request], statuses: Sequence[Any] | None = None) -> bool:
        """Wait for every request."""
        cls.waitall(requests, statuses)
        return True

    @classmethod
    def waitall(cls, requests: Sequence[Request], statuses: Sequence[Any] | None = None) -> list[Any]:
        """Wait for every request; return their results."""
        wanted = statuses or [None] * len(requests)
        return [request.wait(status) for request, status in zip(requests, wanted, strict=True)]


def settle(receive: Receive, status: Any) -> None:
    """Fill in the status of a receive that is done, or raise what was wrong with its message."""
    message = receive.message
    assert message is not None
    fill(status, message.source, message.tag, message.data.nbytes)
    if receive.error is not None:
        raise receive.error


def unpickle(message: Message | None) -> Any:
    """Return the object that a message carries; None for the empty one from PROC_NULL."""
    assert message is not None
    return pickle.loads(message.data.tobytes()) if message.data.size else None


def result_of(meeting: Meeting, rank: int) -> Any:
    """Return what a finished meeting gave to one rank of its communicator, or raise its error."""
    if meeting.error is not None:
        raise copy(meeting.error)  # one each: an error that is raised gathers its rank's traceback
    return meeting.results[rank]
