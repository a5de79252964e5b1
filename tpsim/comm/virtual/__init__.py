"""Virtual ranks: mpi4py's communicator among greenlets or threads of one process.

Ranks send messages (`mail`) and meet in collectives (`meeting`); a schedule (`lockstep`, `free`) says
who runs; when nobody can, `diagnosis` says why.
"""

from tpsim.comm.virtual.comm import VirtualComm
from tpsim.comm.virtual.constants import (
    ANY_SOURCE,
    ANY_TAG,
    BAND,
    BOR,
    BXOR,
    IN_PLACE,
    LAND,
    LOR,
    LXOR,
    MAX,
    MIN,
    PROC_NULL,
    PROD,
    SUM,
    UNDEFINED,
    Op,
    Status,
)
from tpsim.comm.virtual.request import Request

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
