"""What point-to-point communication has in the module `MPI`, under its names there."""

from __future__ import annotations

from typing import Any

from tpsim.comm.virtual.messages.buffered import Attach_buffer, Detach_buffer, Flush_buffer, Iflush_buffer
from tpsim.comm.virtual.messages.generalized import Grequest
from tpsim.comm.virtual.messages.matched import MatchedMessage
from tpsim.comm.virtual.messages.persistent import Prequest
from tpsim.comm.virtual.messages.request import Request

NAMES: dict[str, Any] = {
    "Attach_buffer": Attach_buffer,
    "Detach_buffer": Detach_buffer,
    "Flush_buffer": Flush_buffer,
    "Grequest": Grequest,
    "Iflush_buffer": Iflush_buffer,
    "Message": MatchedMessage,
    "Prequest": Prequest,
    "Request": Request,
}
