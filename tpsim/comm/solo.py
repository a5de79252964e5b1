"""One rank alone, without starting a world: what a layer has when it isn't cut."""

from __future__ import annotations

from tpsim.comm.group import Group
from tpsim.comm.virtual.comm import world_comm
from tpsim.comm.virtual.lockstep import LockstepWorld


def solo(name: str = "tp") -> Group:
    """Return a group of one rank: its collectives return copies and send nothing."""
    return Group(world_comm(LockstepWorld(1, 0), 0), name=name)
