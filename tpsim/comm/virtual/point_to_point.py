"""mpi4py's point-to-point calls on virtual ranks."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.buffers import flat
from tpsim.comm.virtual.constants import ANY_SOURCE, ANY_TAG, PROC_NULL, as_rank, fill
from tpsim.comm.virtual.endpoint import Endpoint
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.request import Request, settle, unpickle

_NOTHING = np.empty(0, np.uint8)


class PointToPoint(Endpoint):
    """Sends and receives: of arrays (capital names) and of objects (lower case, pickled)."""

    def Send(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send an array; return when `buf` may be changed."""
        self.world.wait(self._me, self._send(flat(buf, "Send"), dest, tag))

    def Ssend(self, buf: Any, dest: int, tag: int = 0) -> None:
        """Send an array; return when the receiver has begun to receive it."""
        self.world.wait(self._me, self._send(flat(buf, "Ssend"), dest, tag, synchronous=True))

    def Isend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an array, which must not change until the request is complete."""
        return self._request(self._send(flat(buf, "Isend"), dest, tag))

    def Issend(self, buf: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an array; complete when the receiver has begun to receive it."""
        return self._request(self._send(flat(buf, "Issend"), dest, tag, synchronous=True))

    def Recv(self, buf: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> None:
        """Receive into an array."""
        receive = self._receive(flat(buf, "Recv", writable=True), source, tag)
        self.world.wait(self._me, receive)
        settle(receive, status)

    def Irecv(self, buf: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Request:
        """Begin to receive into an array."""
        return self._request(self._receive(flat(buf, "Irecv", writable=True), source, tag))

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
        """Send one array and receive another, in whichever order the others need."""
        receive = self._receive(flat(recvbuf, "Sendrecv", writable=True), source, recvtag)
        self.world.wait(self._me, self._send(flat(sendbuf, "Sendrecv"), dest, sendtag))
        self.world.wait(self._me, receive)
        settle(receive, status)

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object."""
        self.world.wait(self._me, self._send(_pickled(obj), dest, tag, is_object=True))

    def ssend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; return when the receiver has begun to receive it."""
        self.world.wait(self._me, self._send(_pickled(obj), dest, tag, is_object=True, synchronous=True))

    def isend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an object."""
        return self._request(self._send(_pickled(obj), dest, tag, is_object=True))

    def issend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an object; complete when the receiver has begun to receive it."""
        return self._request(self._send(_pickled(obj), dest, tag, is_object=True, synchronous=True))

    def recv(self, buf: Any = None, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> Any:
        """Receive an object. (`buf` is mpi4py's, and not needed.)"""
        receive = self._receive(None, source, tag)
        self.world.wait(self._me, receive)
        settle(receive, status)
        return unpickle(receive.message)

    def irecv(self, buf: Any = None, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Request:
        """Begin to receive an object, which the request's `wait` returns."""
        receive = self._receive(None, source, tag)
        return Request(self.world, self._me, receive, lambda: unpickle(receive.message))

    def sendrecv(
        self,
        sendobj: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = ANY_SOURCE,
        recvtag: int = ANY_TAG,
        status: Any = None,
    ) -> Any:
        """Send one object and receive another."""
        receive = self._receive(None, source, recvtag)
        self.world.wait(self._me, self._send(_pickled(sendobj), dest, sendtag, is_object=True))
        self.world.wait(self._me, receive)
        settle(receive, status)
        return unpickle(receive.message)

    def Iprobe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> bool:
        """Tell whether a message waits to be received."""
        wanted = Receive((self._id, self.rank), self._source(source), tag, None)
        message = self._probe(wanted)
        if message is None:
            self.world.poll(self._me, wanted)
            message = self._probe(wanted)
        if message is None:
            return False
        fill(status, message.source, message.tag, message.data.nbytes)
        return True

    iprobe = Iprobe

    def _probe(self, wanted: Receive) -> Message | None:
        with self.world.lock:
            return self.world.mail.probe(wanted)

    def _send(
        self, data: NDArray[Any], dest: int, tag: int, *, is_object: bool = False, synchronous: bool = False
    ) -> Message:
        dest = as_rank(dest)
        if tag < 0:
            raise ValueError(
                f"send: tag {tag} is negative, and a message needs a tag of its own; pick 0 or more"
            )
        message = Message((self._id, dest), self.rank, tag, data, is_object=is_object, begun=self._begun())
        if dest is PROC_NULL:
            message.done = True
            return message
        self._check_rank("send", "dest", dest)
        return self.world.send(message, synchronous=synchronous)

    def _receive(self, buffer: NDArray[Any] | None, source: int, tag: int) -> Receive:
        source = self._source(source)
        receive = Receive((self._id, self.rank), source, tag, buffer, begun=self._begun())
        if source is PROC_NULL:
            receive.message = Message(receive.box, PROC_NULL, ANY_TAG, _NOTHING, is_object=True)
            receive.done = True
            return receive
        return self.world.receive(receive)

    def _source(self, source: int) -> int:
        source = as_rank(source)
        if source != ANY_SOURCE and source is not PROC_NULL:
            self._check_rank("recv", "source", source)
        return source

    def _request(self, completion: Message | Receive) -> Request:
        return Request(self.world, self._me, completion)


def _pickled(obj: Any) -> NDArray[np.uint8]:
    return np.frombuffer(pickle.dumps(obj), np.uint8)
