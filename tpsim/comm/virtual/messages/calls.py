"""Calls that were begun: what requests hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tpsim.comm.mpi_errors import SUCCESS, MPIException
from tpsim.comm.places import Mark
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.status import fill
from tpsim.comm.virtual.mail import Message, Receive

if TYPE_CHECKING:
    from tpsim.comm.virtual.messages.in_flight import InFlight
    from tpsim.comm.virtual.world import World


class Call:
    """A call of one rank that was begun; done when its `completion` is.

    Parameters
    ----------
    world : World
    rank : int
        Whose call it is, within the world.
    completion : Completion or None
        None for a persistent call that was not started.
    result : callable, optional
        Returns what `wait` returns, once the call is done; may raise what went wrong.
    """

    __slots__ = ("__weakref__", "_noted", "_result", "completion", "rank", "watch", "world")

    persistent = False
    always_tells = False
    """Whether `fill` has to be called at the end even where nobody wants a status."""

    def __init__(
        self,
        world: World,
        rank: int,
        completion: Completion | None,
        result: Callable[[], Any] | None = None,
    ) -> None:
        self.world = world
        self.rank = rank
        self.completion = completion
        self.watch: InFlight | None = None
        self._result = result
        self._noted = False

    def note(self, name: str, begun: Mark) -> None:
        """Remember, until it ends, that the call was begun, and from which line."""
        self._noted = True
        self.world.begun_calls[self.rank][self] = (name, begun)

    @property
    def done(self) -> bool:
        """Whether the call would end at once."""
        return self.completion is None or self.completion.done

    def fill(self, status: Any) -> None:
        """Say in a status what became of the call, which is done."""
        fill(status, ANY_SOURCE, ANY_TAG, 0)

    def end(self) -> Any:
        """Return the result of the call, which is done and over now."""
        if self._noted:
            self.forget()
        if self.watch is not None:
            self.watch.settle()
        return None if self._result is None else self._result()

    def forget(self) -> None:
        """Be no longer among the calls that somebody has to wait for."""
        self.world.begun_calls[self.rank].pop(self, None)

    def free(self) -> None:
        """Let the call go its way."""
        self.forget()
        if self.watch is not None:
            self.watch.let_go()

    def cancel(self) -> None:
        """Take the call back, if it can be."""
        raise error("ERR_REQUEST", "Cancel: a collective can't be cancelled; wait for it")


class SendCall(Call):
    """A send."""

    __slots__ = ()
    completion: Message

    def fill(self, status: Any) -> None:
        """Say whether it was cancelled; there is nothing else to say."""
        fill(status, ANY_SOURCE, ANY_TAG, 0, cancelled=self.completion.cancelled)

    def cancel(self) -> None:
        """Take the message back, if nobody has received it."""
        self.world.cancel(self.completion)


class ReceiveCall(Call):
    """A receive."""

    __slots__ = ()
    completion: Receive

    def fill(self, status: Any) -> None:
        """Say what came, and from whom."""
        tell(self.completion, status)

    def end(self) -> Any:
        """Return what came, or raise what is wrong with it."""
        if self.completion.error is not None:
            self.free()
            raise self.completion.error
        return super().end()

    def finish(self, status: Any) -> Any:
        """Return what came, and say so in a status, where it is there already."""
        self.fill(status)
        return self.end()

    def cancel(self) -> None:
        """Stop waiting for a message, if none has come."""
        self.world.cancel(self.completion)


class ExchangeCall(Call):
    """A send and a receive in one."""

    __slots__ = ("_receive", "_send")

    def __init__(self, send: SendCall, receive: ReceiveCall) -> None:
        both = receive.world.all_of([send.completion, receive.completion])
        super().__init__(receive.world, receive.rank, both)
        self._send = send
        self._receive = receive

    def fill(self, status: Any) -> None:
        """Say what was received."""
        self._receive.fill(status)

    def end(self) -> Any:
        """Raise what is wrong with what came, or with what became of the buffers."""
        self._send.forget()
        self._receive.end()
        self._send.end()

    def free(self) -> None:
        """Let both go their way."""
        self._send.free()
        self._receive.free()

    def cancel(self) -> None:
        """Refuse."""
        raise error("ERR_REQUEST", "Cancel: a send and receive in one can't be cancelled; wait for it")


def tell(receive: Receive, status: Any) -> None:
    """Say in a status what a receive got."""
    message = receive.message
    if message is None:
        fill(status, ANY_SOURCE, ANY_TAG, 0, cancelled=receive.cancelled)
    else:
        failed = receive.error
        code = failed.Get_error_class() if isinstance(failed, MPIException) else SUCCESS
        fill(status, message.source, message.tag, message.data.nbytes, code)
