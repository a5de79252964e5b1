"""mpi4py's point-to-point calls on virtual ranks, all of them."""

from __future__ import annotations

from tpsim.comm.virtual.messages.arrays import ArrayMessages
from tpsim.comm.virtual.messages.buffered import BufferedMessages
from tpsim.comm.virtual.messages.objects import ObjectMessages
from tpsim.comm.virtual.messages.prepared import PreparedMessages
from tpsim.comm.virtual.messages.probes import Probes


class PointToPoint(BufferedMessages, ArrayMessages, ObjectMessages, Probes, PreparedMessages):
    """Sends and receives: of arrays (capital names) and of objects (lower case, pickled)."""
