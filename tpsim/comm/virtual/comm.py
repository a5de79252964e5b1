"""mpi4py's communicators, for ranks that live in this process: one class for each kind."""

from __future__ import annotations

from tpsim.comm.virtual.collective import (
    ArrayCollectives,
    ArrayNeighbours,
    ArrayScans,
    ObjectCollectives,
    ObjectNeighbours,
    ObjectScans,
)
from tpsim.comm.virtual.communicators.cartesian_calls import CartesianCalls
from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.communicators.graph_calls import DistGraphCalls, GraphCalls
from tpsim.comm.virtual.communicators.handle import INTRA, KINDS, TOPOLOGIES
from tpsim.comm.virtual.communicators.inter import BridgeMaking, InterCalls
from tpsim.comm.virtual.communicators.intra import IntraMaking
from tpsim.comm.virtual.communicators.making import Making
from tpsim.comm.virtual.data.absent import leave_out
from tpsim.comm.virtual.data.constants import CART, DIST_GRAPH, GRAPH
from tpsim.comm.virtual.data.handles import constant
from tpsim.comm.virtual.messages.point_to_point import PointToPoint
from tpsim.comm.virtual.world import World


@leave_out
class Comm(PointToPoint, ArrayCollectives, ObjectCollectives, Making, kinds=KINDS):
    """A communicator: what all kinds have."""

    @classmethod
    def Get_parent(cls) -> Intercomm:
        """Return COMM_NULL: virtual ranks are never spawned by others."""
        return PARENT


@leave_out
class Intracomm(Comm, ArrayScans, ObjectScans, IntraMaking, BridgeMaking, kinds=INTRA):
    """One rank's end of a communicator among virtual ranks.

    Methods have mpi4py's names and meaning: capital names move the memory of arrays, lower-case ones
    move any Python object (pickled, so that each rank has a copy of its own). Reductions add in rank
    order. `tpsim.run` hands each rank its own; nobody else needs to make one.

    Attributes
    ----------
    rank, size : int
        This rank within the communicator, and how many ranks it has.
    """


class Topocomm(Intracomm, ArrayNeighbours, ObjectNeighbours, kinds=set(TOPOLOGIES.values())):
    """A communicator with a topology: who is whose neighbour."""

    @property
    def inoutedges(self) -> tuple[list[int], list[int]]:
        """(whom this rank hears from, whom it sends to)"""
        return self._neighbours()

    @property
    def inedges(self) -> list[int]:
        """Whom this rank hears from."""
        return self._neighbours()[0]

    @property
    def outedges(self) -> list[int]:
        """Whom this rank sends to."""
        return self._neighbours()[1]

    @property
    def degrees(self) -> tuple[int, int]:
        """How many those are."""
        return len(self.inedges), len(self.outedges)

    @property
    def indegree(self) -> int:
        """How many ranks this one hears from."""
        return self.degrees[0]

    @property
    def outdegree(self) -> int:
        """How many ranks this one sends to."""
        return self.degrees[1]


class Cartcomm(Topocomm, CartesianCalls, kinds={TOPOLOGIES[CART]}):
    """A communicator whose ranks are in a grid."""


class Graphcomm(Topocomm, GraphCalls, kinds={TOPOLOGIES[GRAPH]}):
    """A communicator whose ranks are in a graph that each of them knows."""


class Distgraphcomm(Topocomm, DistGraphCalls, kinds={TOPOLOGIES[DIST_GRAPH]}):
    """A communicator whose ranks are in a graph of which each knows its own edges."""


class Intercomm(Comm, InterCalls, kinds={"inter"}):
    """Two groups of ranks: messages and collectives go from each to the other."""


VirtualComm = Intracomm
"""The name by which the rest of tpsim knows it."""

CLASSES = ("Comm", "Intracomm", "Topocomm", "Cartcomm", "Graphcomm", "Distgraphcomm", "Intercomm")
"""Those that `MPI` names."""

COMM_NULL = constant("COMM_NULL", Comm())
PARENT = Intercomm()


def world_comm(world: World, rank: int) -> VirtualComm:
    """Return COMM_WORLD of one rank: the communicator of all ranks."""
    return _predefined("COMM_WORLD", Context(world, "world", range(world.size), rank))


def self_comm(world: World, rank: int) -> VirtualComm:
    """Return COMM_SELF of one rank: a communicator of its own."""
    return _predefined("COMM_SELF", Context(world, ("self", rank), (rank,), 0))


def _predefined(name: str, context: Context) -> VirtualComm:
    context.constant, context.name = name, f"MPI_{name}"
    context.predefined = Intracomm._of(context)
    comm: VirtualComm = context.predefined
    return comm
