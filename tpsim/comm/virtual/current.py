"""Which rank the running code is."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

rank: ContextVar[tuple[World, int] | None] = ContextVar("tpsim_virtual_rank", default=None)
"""The world, and the rank within it. Each schedule sets it in the context of each rank."""


def current_rank(call: str) -> tuple[World, int]:
    """Return the world and the rank that make `call`, which names no communicator.

    A thread that a rank started is that rank where `mpi4py.MPI` is the rank's.
    """
    here = rank.get()
    if here is not None:
        return here
    comm = getattr(sys.modules.get("mpi4py.MPI"), "COMM_WORLD", None)
    context = getattr(comm, "_context", None)
    if context is None:
        raise MPIException(
            ERROR_CLASSES["ERR_OTHER"],
            f"{call}: this code runs on no virtual rank; call it inside the function that tpsim.run runs",
        )
    return context.world, context.me
