"""mpi4py's `Message`: a message that a matched probe took aside, to be received once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from tpsim.comm.places import mark
from tpsim.comm.virtual.data.buffers import Buffer
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, PROC_NULL
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle, constant
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.messages.calls import ReceiveCall
from tpsim.comm.virtual.messages.objects import unpickle
from tpsim.comm.virtual.messages.request import Request
from tpsim.comm.virtual.messages.traffic import nobody, peer_buffer, wire_type

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Matched:
    """A message that was taken aside, and by which rank; by none if it is from PROC_NULL."""

    __slots__ = ("__weakref__", "message", "rank", "world")

    def __init__(self, message: Message, world: World | None = None, rank: int = PROC_NULL) -> None:
        self.message = message
        self.world = world
        self.rank = rank


class FromNobody(ReceiveCall):
    """A receive from PROC_NULL, of no rank's: it is done."""

    __slots__ = ()

    def forget(self) -> None:
        """Do nothing: it is among nobody's calls."""

    def cancel(self) -> None:
        """Do nothing: it is done."""


class MatchedMessage(MPIHandle):
    """A handle of a message that was taken aside. It is null once the message is received."""

    __slots__ = ()
    _state: Matched | None

    @classmethod
    def Probe(cls, comm: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> Self:
        """Wait for a message and take it aside."""
        message: Self = comm._mprobe(cls, source, tag, status)
        return message

    @classmethod
    def Iprobe(
        cls, comm: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None
    ) -> Self | None:
        """Take a message aside if one waits to be received."""
        message: Self | None = comm._improbe(cls, source, tag, status)
        return message

    @classmethod
    def probe(cls, comm: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> Self:
        """Wait for a message and take it aside."""
        return cls.Probe(comm, source, tag, status)

    @classmethod
    def iprobe(
        cls, comm: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None
    ) -> Self | None:
        """Take a message aside if one waits to be received."""
        return cls.Iprobe(comm, source, tag, status)

    def Recv(self, buf: Any, status: Any = None) -> None:
        """Receive the message into a buffer."""
        self._receive("Recv", self._memory(buf, "Recv")).finish(status)

    def Irecv(self, buf: Any) -> Request:
        """Begin to receive the message into a buffer."""
        return Request._of(self._receive("Irecv", self._memory(buf, "Irecv")))

    def recv(self, status: Any = None) -> Any:
        """Receive the object that the message carries."""
        return self._receive("recv", None).finish(status)

    def irecv(self) -> Request:
        """Begin to receive the object that the message carries."""
        return Request._of(self._receive("irecv", None))

    def _memory(self, buf: Any, call: str) -> Buffer:
        source = self._state.message.source if self._state is not None else ANY_SOURCE
        return peer_buffer(buf, source, call, writable=True)

    def _receive(self, call: str, into: Buffer | None) -> ReceiveCall:
        if self._state is None:
            raise error(
                "ERR_REQUEST", f"{call}: this message is null, or was received already; probe for another one"
            )
        message, world, rank = self._state.message, self._state.world, self._state.rank
        begun = mark(sys._getframe())
        receive = Receive(message.box, (), message.source, message.tag, into, begun=begun)
        result: Callable[[], Any] | None = None
        if into is None:
            result = lambda: unpickle(message)  # noqa: E731
        else:
            receive.dtype = wire_type(into)
        if not self.is_constant:
            self._state = None
        if world is None:
            receive.message = message
            receive.done = True
            return FromNobody(None, rank, receive, result)  # type: ignore[arg-type]
        world.deliver(message, receive)
        made = ReceiveCall(world, rank, receive, result)
        made.note(call, begun)
        return made


MESSAGE_NULL = constant("MESSAGE_NULL", MatchedMessage())
MESSAGE_NO_PROC = constant("MESSAGE_NO_PROC", MatchedMessage._of(Matched(nobody((PROC_NULL, PROC_NULL)))))
