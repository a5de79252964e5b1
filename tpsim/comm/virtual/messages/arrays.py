"""The capital sends and receives: of memory, as it lies in arrays."""

from __future__ import annotations

from typing import Any

from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, PROC_NULL, as_rank
from tpsim.comm.virtual.mail import Receive
from tpsim.comm.virtual.messages.calls import ExchangeCall, SendCall, tell
from tpsim.comm.virtual.messages.request import Request
from tpsim.comm.virtual.messages.traffic import Traffic, peer_buffer, wire_type
from tpsim.comm.virtual.post_office import Mode


class ArrayMessages(Traffic):
    """`Send`, `Recv` and their kin. Buffers are specified as in mpi4py: array, [data, count, type] …"""

    # -- that wait ---------------------------------------------------------------------------------------

    def Send(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send a buffer; return when it may be changed."""
        self._send(buf, dest, tag, "Send", "standard")

    def Ssend(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send a buffer; return when the receiver has begun to receive it."""
        self._send(buf, dest, tag, "Ssend", "synchronous")

    def Bsend(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send a buffer by way of the attached one (`Attach_buffer`); return at once."""
        self._send(buf, dest, tag, "Bsend", "buffered")

    def Rsend(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send a buffer whose receive has begun already, as the program promises."""
        self._send(buf, dest, tag, "Rsend", "ready")

    def _send(self, buf: Any, dest: int, tag: int, call: str, mode: Mode) -> None:
        message = self._send_buffer(peer_buffer(buf, dest, call), dest, tag, call, mode)
        if not message.done:
            self.world.wait(self._me, message)

    def Recv(self, buf: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> None:
        """Receive into a buffer."""
        self._finish(self._recv(buf, source, tag, "Recv"), status)

    def Sendrecv(
        self,
        sendbuf: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
        status: Any = None,
    ) -> None:
        """Send one buffer and receive another, in whichever order the others need."""
        outgoing = peer_buffer(sendbuf, dest, "Sendrecv")
        receive = self._recv(recvbuf, source, recvtag, "Sendrecv")
        self.world.wait(self._me, self._send_buffer(outgoing, dest, sendtag, "Sendrecv", "standard"))
        self._finish(receive, status)

    def Sendrecv_replace(
        self,
        buf: Any,
        dest: int,
        sendtag: int = 0,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
        status: Any = None,
    ) -> None:
        """Send a buffer and receive into the same one."""
        call = "Sendrecv_replace"
        both = peer_buffer(buf, dest if as_rank(source) is PROC_NULL else source, call, writable=True)
        data = both.pack().copy()
        receive = self._await(both, wire_type(both), source, recvtag, call)
        self.world.wait(self._me, self._post(data, wire_type(both), dest, sendtag, call, owned=True))
        self._finish(receive, status)

    # -- that begin --------------------------------------------------------------------------------------

    def Isend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send a buffer, which must not change until the request is complete."""
        return Request._of(self._begin_send(peer_buffer(buf, dest, "Isend"), dest, tag, "Isend", "standard"))

    def Issend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send a buffer; complete when the receiver has begun to receive it."""
        return Request._of(
            self._begin_send(peer_buffer(buf, dest, "Issend"), dest, tag, "Issend", "synchronous")
        )

    def Ibsend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send a buffer by way of the attached one."""
        return Request._of(
            self._begin_send(peer_buffer(buf, dest, "Ibsend"), dest, tag, "Ibsend", "buffered")
        )

    def Irsend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send a buffer whose receive has begun already."""
        return Request._of(self._begin_send(peer_buffer(buf, dest, "Irsend"), dest, tag, "Irsend", "ready"))

    def Irecv(self, buf: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Request:
        """Begin to receive into a buffer, which must be left alone until the request is complete."""
        incoming = peer_buffer(buf, source, "Irecv", writable=True)
        return Request._of(self._begin_receive(incoming, source, tag, "Irecv"))

    def Isendrecv(
        self,
        sendbuf: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
    ) -> Request:
        """Begin to send one buffer and to receive another."""
        call = "Isendrecv"
        outgoing, incoming = (
            peer_buffer(sendbuf, dest, call),
            peer_buffer(recvbuf, source, call, writable=True),
        )
        receive = self._begin_receive(incoming, source, recvtag, call)
        send = self._begin_send(outgoing, dest, sendtag, call, "standard")
        return Request._of(ExchangeCall(send, receive))

    def Isendrecv_replace(
        self,
        buf: Any,
        dest: int,
        sendtag: int = 0,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
    ) -> Request:
        """Begin to send a buffer and to receive into the same one."""
        call = "Isendrecv_replace"
        both = peer_buffer(buf, dest if as_rank(source) is PROC_NULL else source, call, writable=True)
        data = both.pack().copy()
        receive = self._begin_receive(both, source, recvtag, call)
        message = self._post(data, wire_type(both), dest, sendtag, call, owned=True)
        return Request._of(ExchangeCall(SendCall(self.world, self._me, message), receive))

    # -- both --------------------------------------------------------------------------------------------

    def _recv(self, buf: Any, source: int, tag: int, call: str) -> Receive:
        incoming = peer_buffer(buf, source, call, writable=True)
        return self._await(incoming, wire_type(incoming), source, tag, call)

    def _finish(self, receive: Receive, status: Any) -> None:
        """Wait for a receive; raise what is wrong with what came."""
        if not receive.done:
            self.world.wait(self._me, receive)
        tell(receive, status)
        if receive.error is not None:
            raise receive.error
