"""mpi4py's capital-letter collectives that move the memory of arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tpsim.comm.virtual.collective.exchange import deal, exchange, share
from tpsim.comm.virtual.collective.forms import Plan, forms
from tpsim.comm.virtual.collective.measure import check_own, elements_of
from tpsim.comm.virtual.collective.part import Block, Overwritten, OwnBlock, Part
from tpsim.comm.virtual.collective.roles import Roles
from tpsim.comm.virtual.data.buffers import Buffer, buffer, vector_buffer, w_buffer

Resolve = Callable[..., Buffer]


def even_buffer(spec: Any, call: str, blocks: int, *, writable: bool = False) -> Buffer:
    """Resolve the specification of blocks of one length, as `vector_buffer` does for the v forms."""
    return buffer(spec, call, writable=writable, blocks=blocks)


class ArrayMoves(Roles):
    """Each collective, described once, in its three forms: `Bcast`, `Ibcast`, `Bcast_init`, …

    Between two groups (in an intercommunicator) data go from each group to the other, or from the
    group with the root, whose root says ROOT and whose others say PROC_NULL.
    """

    def _barrier(self, call: str) -> Plan:
        """Return when every rank has called."""
        return Plan(self._signature(call), None, lambda parts: parts)

    def _bcast(self, call: str, buf: Any, root: int = 0) -> Plan:
        """Copy the root's array to every rank's."""
        role = self._role(call, root)
        part = Part(self._me)
        if role.is_root:
            part.send = buffer(buf, call)
            part.out = [(seat, None) for seat in self._others if seat != role.seat]
        elif role.is_peer:
            part.recv, part.into = buffer(buf, call, writable=True), role.with_root(None)
        return self._carry(call, part, part.send or part.recv, root=root)

    def _gather(self, call: str, sendbuf: Any, recvbuf: Any, root: int = 0) -> Plan:
        """Put every rank's array behind one another on the root."""
        return self._gathering(call, sendbuf, recvbuf, root, even_buffer)

    def _gatherv(self, call: str, sendbuf: Any, recvbuf: Any, root: int = 0) -> Plan:
        """Put every rank's array, of whatever length, in its place on the root."""
        return self._gathering(call, sendbuf, recvbuf, root, vector_buffer)

    def _gathering(self, call: str, sendbuf: Any, recvbuf: Any, root: int, resolve: Resolve) -> Plan:
        role, others = self._role(call, root), self._others
        in_place = role.is_root and self._is_in_place(sendbuf)
        part = Part(self._me)
        if role.is_root:
            part.recv = resolve(recvbuf, call, len(others), writable=True)
            part.into = [(seat, i) for i, seat in enumerate(others) if not (in_place and i == self.rank)]
        if role.is_peer and not in_place:
            part.send, part.out = buffer(sendbuf, call), role.with_root(None)
        if resolve is not even_buffer:
            return self._carry(call, part, root=root)
        if part.send and part.recv:
            check_own(call, part.send, part.recv, elements_of(part.send) * self.size)
        return self._carry(call, part, part.send or part.recv, 0, root=root)

    def _scatter(self, call: str, sendbuf: Any, recvbuf: Any, root: int = 0) -> Plan:
        """Give every rank its block of the root's array."""
        return self._scattering(call, sendbuf, recvbuf, root, even_buffer)

    def _scatterv(self, call: str, sendbuf: Any, recvbuf: Any, root: int = 0) -> Plan:
        """Give every rank its block, of whatever length, of the root's array."""
        return self._scattering(call, sendbuf, recvbuf, root, vector_buffer)

    def _scattering(self, call: str, sendbuf: Any, recvbuf: Any, root: int, resolve: Resolve) -> Plan:
        role, others = self._role(call, root), self._others
        in_place = role.is_root and self._is_in_place(recvbuf)
        part = Part(self._me)
        if role.is_root:
            part.send = resolve(sendbuf, call, len(others))
            part.out = [(seat, i) for i, seat in enumerate(others) if not (in_place and i == self.rank)]
        if role.is_peer and not in_place:
            part.recv, part.into = buffer(recvbuf, call, writable=True), role.with_root(None)
        if resolve is not even_buffer:
            return self._carry(call, part, root=root)
        if part.send and part.recv:
            check_own(call, part.send, part.recv, elements_of(part.send, 0))
        return self._carry(call, part, part.recv or part.send, 0, root=root)

    def _allgather(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Put every rank's array behind one another, in rank order, on every rank."""
        return self._sharing(call, sendbuf, recvbuf, even_buffer)

    def _allgatherv(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Put every rank's array, of whatever length, in its place on every rank."""
        return self._sharing(call, sendbuf, recvbuf, vector_buffer)

    def _sharing(self, call: str, sendbuf: Any, recvbuf: Any, resolve: Resolve) -> Plan:
        others = self._others
        recv = resolve(recvbuf, call, len(others), writable=True)
        send: Any = OwnBlock(recv, self.rank) if self._is_in_place(sendbuf) else buffer(sendbuf, call)
        part = Part(self._me, send, recv, hears=others)
        if resolve is not even_buffer:
            return Plan(self._signature(call), part, partial(share, call))
        if isinstance(send, Buffer) and not self._context.is_inter:
            check_own(call, send, recv, elements_of(send) * self.size)
        return Plan(self._signature(call, recv, 0), part, partial(share, call))

    def _alltoall(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Block j of rank i becomes block i of rank j."""
        if self._context.is_inter:
            return self._dealing(call, sendbuf, recvbuf, even_buffer)
        recv = even_buffer(recvbuf, call, self.size, writable=True)
        send = recv if self._is_in_place(sendbuf) else even_buffer(sendbuf, call, self.size)
        check_own(call, send, recv, elements_of(send))
        return Plan(self._signature(call, recv), Part(self._me, send, recv), deal)

    def _alltoallv(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Block j of rank i, of whatever length, becomes block i of rank j."""
        return self._dealing(call, sendbuf, recvbuf, vector_buffer)

    def _alltoallw(self, call: str, sendbuf: Any, recvbuf: Any) -> Plan:
        """Block j of rank i, of whatever length, place and type, becomes block i of rank j."""
        return self._dealing(call, sendbuf, recvbuf, w_buffer)

    def _dealing(self, call: str, sendbuf: Any, recvbuf: Any, resolve: Resolve) -> Plan:
        count = len(self._others)
        recv = resolve(recvbuf, call, count, writable=True)
        in_place = self._is_in_place(sendbuf)
        send: Any = Overwritten(recv) if in_place else resolve(sendbuf, call, count)
        everybody = [(seat, i) for i, seat in enumerate(self._others)]
        return self._carry(call, Part(self._me, send, recv, out=everybody, into=everybody))

    def _carry(
        self,
        call: str,
        part: Part,
        alike: Buffer | None = None,
        block: Block = None,
        *,
        root: int | None = None,
    ) -> Plan:
        """Return the plan of a collective that carries blocks: as long everywhere as `alike`, if given."""
        return Plan(self._signature(call, alike, block, root=root), part, partial(exchange, call))

    Barrier, Ibarrier, Barrier_init = forms("Barrier", _barrier)
    Bcast, Ibcast, Bcast_init = forms("Bcast", _bcast)
    Gather, Igather, Gather_init = forms("Gather", _gather)
    Gatherv, Igatherv, Gatherv_init = forms("Gatherv", _gatherv)
    Scatter, Iscatter, Scatter_init = forms("Scatter", _scatter)
    Scatterv, Iscatterv, Scatterv_init = forms("Scatterv", _scatterv)
    Allgather, Iallgather, Allgather_init = forms("Allgather", _allgather)
    Allgatherv, Iallgatherv, Allgatherv_init = forms("Allgatherv", _allgatherv)
    Alltoall, Ialltoall, Alltoall_init = forms("Alltoall", _alltoall)
    Alltoallv, Ialltoallv, Alltoallv_init = forms("Alltoallv", _alltoallv)
    Alltoallw, Ialltoallw, Alltoallw_init = forms("Alltoallw", _alltoallw)
