"""Collectives among the neighbours of a virtual topology, of arrays and of objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tpsim.comm.virtual.collective.arrays import Resolve, even_buffer
from tpsim.comm.virtual.collective.exchange import exchange
from tpsim.comm.virtual.collective.forms import Plan, forms
from tpsim.comm.virtual.collective.objects import Objects, one_each
from tpsim.comm.virtual.collective.part import Addressed, Part
from tpsim.comm.virtual.collective.roles import Roles
from tpsim.comm.virtual.data.buffers import buffer, vector_buffer, w_buffer
from tpsim.comm.virtual.data.constants import CART, PROC_NULL


class Neighbourhood(Roles):
    """Whom a rank of a topology sends to and hears from; PROC_NULL is nobody."""

    def _neighbours(self) -> tuple[list[int], list[int]]:
        """Return (sources, destinations)."""
        topology = self._context.topology
        assert topology is not None
        return topology.neighbours(self.rank)

    def _addressed(self) -> tuple[Addressed, Addressed]:
        """Return (which block goes to which rank, which rank's block comes to which place).

        Two ranks may be neighbours twice, and then the order of the blocks says which is which. In a ring
        of one or two ranks, what is sent in one direction comes from the other (MPI-4.0, figure 8.1): so in
        grids both directions are sent in the opposite order of that in which they come.
        """
        sources, destinations = self._neighbours()
        topology = self._context.topology
        crossed = topology is not None and topology.kind == CART
        order = [block ^ 1 if crossed else block for block in range(len(destinations))]
        return (
            [(destinations[block], block) for block in order if destinations[block] != PROC_NULL],
            [(source, place) for place, source in enumerate(sources) if source != PROC_NULL],
        )


class ArrayNeighbours(Neighbourhood):
    """Each collective, described once, in its three forms."""

    def _neighbor_allgather(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Put the arrays of all neighbours that send here behind one another."""
        return self._round(call, sendbuf, recvbuf, even_buffer, to_all=True)

    def _neighbor_allgatherv(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Put the arrays of all neighbours that send here, of whatever length, in their places."""
        return self._round(call, sendbuf, recvbuf, vector_buffer, to_all=True)

    def _neighbor_alltoall(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Send each neighbour a block of its own, and receive one from each."""
        return self._round(call, sendbuf, recvbuf, even_buffer)

    def _neighbor_alltoallv(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Send each neighbour a block of its own, of whatever length, and receive one from each."""
        return self._round(call, sendbuf, recvbuf, vector_buffer)

    def _neighbor_alltoallw(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Send each neighbour a block of its own, of whatever length and type, and receive one from each."""
        return self._round(call, sendbuf, recvbuf, w_buffer)

    def _round(
        self, call: str, sendbuf: Any, recvbuf: Any, resolve: Resolve, *, to_all: bool = False
    ) -> Plan:
        sources, destinations = self._neighbours()
        out, into = self._addressed()
        part = Part(self._me, out=[(seat, None) for seat, _ in out] if to_all else out, into=into)
        if destinations:
            part.send = buffer(sendbuf, call) if to_all else resolve(sendbuf, call, len(destinations))
        if sources:
            part.recv = resolve(recvbuf, call, len(sources), writable=True)
        return Plan(self._signature(call), part, partial(exchange, call))

    Neighbor_allgather, Ineighbor_allgather, Neighbor_allgather_init = forms(
        "Neighbor_allgather", _neighbor_allgather
    )
    Neighbor_allgatherv, Ineighbor_allgatherv, Neighbor_allgatherv_init = forms(
        "Neighbor_allgatherv", _neighbor_allgatherv
    )
    Neighbor_alltoall, Ineighbor_alltoall, Neighbor_alltoall_init = forms(
        "Neighbor_alltoall", _neighbor_alltoall
    )
    Neighbor_alltoallv, Ineighbor_alltoallv, Neighbor_alltoallv_init = forms(
        "Neighbor_alltoallv", _neighbor_alltoallv
    )
    Neighbor_alltoallw, Ineighbor_alltoallw, Neighbor_alltoallw_init = forms(
        "Neighbor_alltoallw", _neighbor_alltoallw
    )


class ObjectNeighbours(Neighbourhood, Objects):
    """Objects travel pickled; from where nobody is comes None."""

    def neighbor_allgather(self, sendobj: Any) -> list[Any]:
        """Return the objects of all neighbours that send here."""
        out, into = self._addressed()
        places = len(self._neighbours()[0])
        return self._swap("neighbor_allgather", [sendobj], [(seat, 0) for seat, _ in out], into, places)

    def neighbor_alltoall(self, sendobj: Sequence[Any] | None) -> list[Any]:
        """Send each neighbour an object of its own, and return the one that each sends here."""
        sources, destinations = self._neighbours()
        objects = one_each("neighbor_alltoall", sendobj, len(destinations))
        return self._swap("neighbor_alltoall", objects, *self._addressed(), len(sources))
