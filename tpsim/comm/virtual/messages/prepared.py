"""Sends and receives that are prepared once and begun many times."""

from __future__ import annotations

from typing import Any

from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG
from tpsim.comm.virtual.messages.persistent import PersistentCall, Prequest
from tpsim.comm.virtual.messages.traffic import Traffic, check_address, peer_buffer
from tpsim.comm.virtual.post_office import Mode


class PreparedMessages(Traffic):
    """`Send_init` and its kin. The buffer is read, or written, anew at each start."""

    def Send_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:
        """Prepare a send."""
        return self._prepare_send(buf, dest, tag, "Send_init", "standard")

    def Ssend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:
        """Prepare a send that is complete when the receiver has begun to receive."""
        return self._prepare_send(buf, dest, tag, "Ssend_init", "synchronous")

    def Bsend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:
        """Prepare a send by way of the attached buffer."""
        return self._prepare_send(buf, dest, tag, "Bsend_init", "buffered")

    def Rsend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:
        """Prepare a send whose receive has begun already whenever it is started."""
        return self._prepare_send(buf, dest, tag, "Rsend_init", "ready")

    def Recv_init(self, buf: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Prequest:
        """Prepare a receive."""
        incoming = peer_buffer(buf, source, "Recv_init", writable=True)
        check_address(self, source, "source", tag, "Recv_init")
        return self._prequest(lambda: self._begin_receive(incoming, source, tag, "Recv_init"))

    def _prepare_send(self, buf: Any, dest: int, tag: int, call: str, mode: Mode) -> Prequest:
        outgoing = peer_buffer(buf, dest, call)
        check_address(self, dest, "dest", tag, call)
        return self._prequest(lambda: self._begin_send(outgoing, dest, tag, call, mode))

    def _prequest(self, begin: Any) -> Prequest:
        here = self._context
        return Prequest._of(PersistentCall(here.world, here.me, begin))
