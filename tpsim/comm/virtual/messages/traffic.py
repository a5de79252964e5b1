"""What all sends and receives of a communicator stand on."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.places import Mark, mark
from tpsim.comm.signature import POINT_TO_POINT
from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.data.buffers import Buffer, buffer
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, PROC_NULL, TAG_UB_VALUE, as_rank
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.type_table import TYPES
from tpsim.comm.virtual.endpoint import Endpoint, no_rank
from tpsim.comm.virtual.mail import MatchedProbe, Message, Receive
from tpsim.comm.virtual.messages.calls import ReceiveCall, SendCall
from tpsim.comm.virtual.messages.in_flight import ReceivedMemory, SentMemory
from tpsim.comm.virtual.post_office import Mode

NOTHING = np.empty(0, np.uint8)
_BYTE = TYPES["BYTE"].state
_NO_MEMORY = buffer([None, 0, TYPES["BYTE"]], "")


class Traffic(Endpoint):
    """Messages of one rank's end of a communicator."""

    def _post(
        self,
        data: NDArray[Any],
        dtype: np.dtype[Any] | None,
        dest: int,
        tag: int,
        call: str,
        mode: Mode = "standard",
        *,
        is_object: bool = False,
        owned: bool = False,
    ) -> Message:
        """Send a message on its way."""
        here = self._context
        dest, tag = _address(here, dest, "dest", tag, call)
        begun = () if dest is PROC_NULL else _line(here)
        message = Message(
            (here.peers_id, dest), here.rank, here.me, tag, data, dtype, is_object, owned, begun
        )
        if dest is PROC_NULL:
            message.done = True
            return message
        if mode == "buffered":
            self._lend(message, call)
        if not here.world.send(message, mode):
            raise error(
                "ERR_OTHER",
                f"{call}: rank {dest} has not begun to receive this message (tag {tag}), as a ready send "
                "promises; let it call Irecv first and say so (a Barrier will do), or use Send",
            )
        return message

    def _lend(self, message: Message, call: str) -> None:
        """Give a message memory of the attached buffer."""
        raise NotImplementedError

    def _await(self, buffer: Any, dtype: np.dtype[Any] | None, source: int, tag: int, call: str) -> Receive:
        """Begin to receive: into a buffer, or an object (None)."""
        here = self._context
        source, tag = _address(here, source, "source", tag, call)
        begun = () if source is PROC_NULL else _line(here)
        receive = Receive((here.id, here.rank), here.peers, source, tag, buffer, dtype, begun)
        if source is PROC_NULL:
            receive.message = nobody(receive.box)
            receive.done = True
        else:
            here.world.receive(receive)
        return receive

    def _wanted(self, kind: type[MatchedProbe], source: int, tag: int, call: str) -> Any:
        """Return what looks for a message."""
        here = self._context
        source, tag = _address(here, source, "source", tag, call)
        return kind((here.id, here.rank), here.peers, source, tag, begun=_line(here))

    # -- as requests -------------------------------------------------------------------------------------

    def _send_buffer(self, buffer: Buffer, dest: int, tag: int, call: str, mode: Mode) -> Message:
        return self._post(buffer.pack(), wire_type(buffer), dest, tag, call, mode)

    def _begin_send(self, buffer: Buffer, dest: int, tag: int, call: str, mode: Mode) -> SendCall:
        """Begin to send a buffer."""
        here = self._context
        watch = SentMemory(buffer, call, _line(here)) if here.world.check else None
        data = buffer.pack() if watch is None else watch.data
        message = self._post(data, wire_type(buffer), dest, tag, call, mode, owned=watch is not None)
        begun = SendCall(here.world, here.me, message)
        begun.watch = watch
        note(begun, call)
        return begun

    def _begin_receive(self, buffer: Buffer, source: int, tag: int, call: str) -> ReceiveCall:
        """Begin to receive into a buffer."""
        here = self._context
        watch = ReceivedMemory(buffer, call, _line(here)) if here.world.check else None
        receive = self._await(watch or buffer, wire_type(buffer), source, tag, call)
        begun = ReceiveCall(here.world, here.me, receive)
        begun.watch = watch
        note(begun, call)
        return begun


def note(call: SendCall | ReceiveCall, name: str) -> None:
    """Remember that a call was begun; not so inside a group's collective, which is itself remembered."""
    begun = call.completion.begun(call.rank)
    if begun:
        call.note(name, begun)


def peer_buffer(buf: Any, peer: int, call: str, *, writable: bool = False) -> Buffer:
    """Return a buffer specification, resolved; where the peer is PROC_NULL, it may be anything."""
    if peer < 0 and as_rank(peer) is PROC_NULL:
        return _NO_MEMORY
    return buffer(buf, call, writable=writable)


def wire_type(buffer: Buffer) -> np.dtype[Any] | None:
    """Return the dtype that a message of this buffer has; None for bytes and for structures."""
    state = buffer.datatype.state
    return None if state is _BYTE else state.layout.dtype


def check_address(comm: Endpoint, peer: int, role: str, tag: int, call: str) -> None:
    """Check the rank to send to or receive from, and the tag."""
    _address(comm._context, peer, role, tag, call)


def _address(here: Context, peer: int, role: str, tag: int, call: str) -> tuple[int, int]:
    """Return the rank to send to or receive from, and the tag, if they can be."""
    if type(peer) is not int or peer < 0:
        peer = as_rank(peer)
    if type(tag) is not int:
        tag = as_rank(tag)  # as whole a number as ranks are
    if (
        not 0 <= peer < len(here.peers)
        and peer is not PROC_NULL
        and (peer is not ANY_SOURCE or role == "dest")
    ):
        raise no_rank(call, role, peer, here.peers)
    if not 0 <= tag <= TAG_UB_VALUE and (tag != ANY_TAG or role == "dest"):
        raise _bad_tag(call, tag)
    return peer, tag


def _line(here: Context) -> Mark:
    """Return the line that begins to send or receive, for messages that may be left behind.

    A collective's own messages get none: there are many, and its call is known.
    """
    call = here.world.calling[here.me]
    return mark(sys._getframe(1)) if call is None or call.operation in POINT_TO_POINT else ()


def nobody(box: tuple[int, int]) -> Message:
    """Return the message that comes from PROC_NULL."""
    return Message(box, PROC_NULL, PROC_NULL, ANY_TAG, NOTHING)


def _bad_tag(call: str, tag: int) -> Exception:
    if tag < 0:
        return error(
            "ERR_TAG", f"{call}: tag {tag} is negative, and a message needs a tag of its own; pick 0 or more"
        )
    return error("ERR_TAG", f"{call}: tag {tag} is too large; pick at most {TAG_UB_VALUE} (MPI.TAG_UB)")
