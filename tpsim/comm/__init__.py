"""Ranks that talk: groups and their collectives, on virtual ranks and under MPI.

`run` starts virtual ranks, `launch` takes mpiexec's where there are any; a `Group` wraps either's
communicator, and is all that layers see.
"""

from tpsim.comm.dry import DryMesh, dry_group
from tpsim.comm.errors import (
    CollectiveMismatchError,
    CommError,
    CorruptionError,
    DeadlockError,
    InFlightError,
    MPIUnavailableError,
    TruncationError,
    UnfinishedError,
)
from tpsim.comm.group import Group
from tpsim.comm.handle import Handle
from tpsim.comm.launch import launch, run
from tpsim.comm.mesh import Mesh
from tpsim.comm.solo import solo
from tpsim.comm.virtual import IN_PLACE, MAX, MIN, PROD, SUM, Status, VirtualComm

__all__ = [
    "IN_PLACE",
    "MAX",
    "MIN",
    "PROD",
    "SUM",
    "CollectiveMismatchError",
    "CommError",
    "CorruptionError",
    "DeadlockError",
    "DryMesh",
    "Group",
    "Handle",
    "InFlightError",
    "MPIUnavailableError",
    "Mesh",
    "Status",
    "TruncationError",
    "UnfinishedError",
    "VirtualComm",
    "dry_group",
    "launch",
    "run",
    "solo",
]
