"""A message that does not fit into what it is received into: what was sent, what is received, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpsim.comm.places import called, name

if TYPE_CHECKING:
    from tpsim.comm.virtual.mail import Message, Receive


def misfit(message: Message, receive: Receive) -> str:
    """Say why a message can't be received so; empty if it can."""
    buffer, sent = receive.buffer, message.data.nbytes
    both = "use the capital form (Send, Recv) or the lower-case form (send, recv) on both sides"
    if buffer is None:
        if message.dtype is None or message.dtype == np.uint8:
            return ""
        return _sentence(message, receive, _typed(sent, message.dtype), None, both)
    if message.is_object and receive.dtype is not None:
        return _sentence(message, receive, "an object", _typed(buffer.nbytes, receive.dtype), both)
    typed = message.dtype is not None and receive.dtype is not None  # NumPy says that float64 == None
    if sent and typed and message.dtype != receive.dtype:
        remedy = f"receive into an array of {message.dtype}, or send {receive.dtype}"
    elif sent > buffer.nbytes:
        remedy = "make the buffer at least as long as the message"
    else:
        return ""
    return _sentence(
        message, receive, _typed(sent, message.dtype), _typed(buffer.nbytes, receive.dtype), remedy
    )


def _sentence(message: Message, receive: Receive, sent: str, wanted: str | None, remedy: str) -> str:
    call = called(receive.begun(0)) or "recv"
    place = name(message.begun(0))
    where = f" ({called(message.begun(0))} at {place})" if place else ""
    me = f"rank {receive.box[1]}"
    whereas = f"{me} receives an object" if wanted is None else f"the buffer of {me} is {wanted}"
    return f"{call}: rank {message.source} sent {sent}{where}, and {whereas}; {remedy}"


def _typed(nbytes: int, dtype: np.dtype[Any] | None) -> str:
    if dtype is None or not dtype.itemsize:
        return f"{nbytes} bytes"
    return f"{nbytes // dtype.itemsize} × {dtype}"
