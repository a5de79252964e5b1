"""Virtual ranks: mpi4py's communicator among greenlets or threads of one process.

Ranks send messages (`mail`) and meet in collectives (`meeting`); a schedule (`lockstep`, `free`) says
who runs; when nobody can, `diagnosis` says why.
"""

from tpsim.comm.virtual.comm import VirtualComm
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, IN_PLACE, PROC_NULL, UNDEFINED
from tpsim.comm.virtual.data.ops import BAND, BOR, BXOR, LAND, LOR, LXOR, MAX, MIN, PROD, SUM, Op
from tpsim.comm.virtual.data.status import Status
from tpsim.comm.virtual.messages.request import Request

__all__ = [
    "ANY_SOURCE",
    "ANY_TAG",
    "BAND",
    "BOR",
    "BXOR",
    "IN_PLACE",
    "LAND",
    "LOR",
    "LXOR",
    "MAX",
    "MIN",
    "PROC_NULL",
    "PROD",
    "SUM",
    "UNDEFINED",
    "Op",
    "Request",
    "Status",
    "VirtualComm",
]
