"""Collectives of virtual ranks, each described once: who brings what, and what the last to come does with it.

`forms` turns a description into the blocking, the non-blocking and the persistent method of mpi4py.
"""

from tpsim.comm.virtual.collective.arrays import ArrayMoves
from tpsim.comm.virtual.collective.neighbours import ArrayNeighbours, ObjectNeighbours
from tpsim.comm.virtual.collective.objects import ObjectCollectives, ObjectScans
from tpsim.comm.virtual.collective.reductions import ArrayReductions, ArrayScans


class ArrayCollectives(ArrayMoves, ArrayReductions):
    """The capital-letter collectives that every communicator has."""


__all__ = [
    "ArrayCollectives",
    "ArrayNeighbours",
    "ArrayScans",
    "ObjectCollectives",
    "ObjectNeighbours",
    "ObjectScans",
]
