"""The lower-case sends and receives: of any Python object, pickled, so that the receiver has a copy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, PROC_NULL, as_rank
from tpsim.comm.virtual.data.process import current_process
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.messages.calls import ReceiveCall, SendCall, tell
from tpsim.comm.virtual.messages.request import Request
from tpsim.comm.virtual.messages.traffic import NOTHING, Traffic, note
from tpsim.comm.virtual.post_office import Mode


class ObjectMessages(Traffic):
    """`send`, `recv` and their kin."""

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object."""
        self._wait_for(self._send_object(obj, dest, tag, "send"))

    def ssend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; return when the receiver has begun to receive it."""
        self._wait_for(self._send_object(obj, dest, tag, "ssend", "synchronous"))

    def bsend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object by way of the attached buffer; return at once."""
        self._send_object(obj, dest, tag, "bsend", "buffered")

    def isend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an object."""
        return self._isend(obj, dest, tag, "isend", "standard")

    def issend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an object; complete when the receiver has begun to receive it."""
        return self._isend(obj, dest, tag, "issend", "synchronous")

    def ibsend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Begin to send an object by way of the attached buffer."""
        return self._isend(obj, dest, tag, "ibsend", "buffered")

    def recv(self, buf: Any = None, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Any = None) -> Any:
        """Receive an object. (`buf` is there because mpi4py has it, and is not needed.)"""
        if buf is not None:
            warnings.warn("the 'buf' argument is deprecated", UserWarning, stacklevel=2)
        return self._receive_object(self._await(None, None, source, tag, "recv"), status)

    def irecv(self, buf: Any = None, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Request:
        """Begin to receive an object, which the request's `wait` returns. (`buf` is not needed.)"""
        receive = self._await(None, None, source, tag, "irecv")
        call = ReceiveCall(self.world, self._me, receive, lambda: unpickle(receive.message))
        note(call, "irecv")
        return Request._of(call)

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
        receive = self._await(None, None, source, recvtag, "sendrecv")
        self._wait_for(self._send_object(sendobj, dest, sendtag, "sendrecv"))
        return self._receive_object(receive, status)

    def _send_object(self, obj: Any, dest: int, tag: int, call: str, mode: Mode = "standard") -> Message:
        data = NOTHING if as_rank(dest) is PROC_NULL else pickled(obj)
        return self._post(data, None, dest, tag, call, mode, is_object=True, owned=True)

    def _isend(self, obj: Any, dest: int, tag: int, name: str, mode: Mode) -> Request:
        call = SendCall(self.world, self._me, self._send_object(obj, dest, tag, name, mode))
        note(call, name)
        return Request._of(call)

    def _receive_object(self, receive: Receive, status: Any) -> Any:
        self._wait_for(receive)
        tell(receive, status)
        if receive.error is not None:
            raise receive.error
        return unpickle(receive.message)

    def _wait_for(self, completion: Message | Receive) -> None:
        if not completion.done:
            self.world.wait(self._me, completion)


def pickled(obj: Any) -> NDArray[np.uint8]:
    """Return an object as bytes."""
    return np.frombuffer(current_process().pickle.dumps(obj), np.uint8)


def unpickle(message: Message | None) -> Any:
    """Return the object that a message carries; None for an empty one, and for a cancelled receive."""
    if message is None or not message.data.size:
        return None
    return current_process().pickle.loads(message.data.tobytes())
