"""mpi4py's capital-letter collectives that reduce the memory of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any

from tpsim.comm.virtual.collective import folding
from tpsim.comm.virtual.collective.arrays import even_buffer
from tpsim.comm.virtual.collective.exchange import Nothing
from tpsim.comm.virtual.collective.forms import Plan, forms
from tpsim.comm.virtual.collective.measure import check_own, elements_of, unit_of
from tpsim.comm.virtual.collective.part import Part
from tpsim.comm.virtual.collective.roles import Roles
from tpsim.comm.virtual.data.buffers import buffer
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.ops import SUM, as_op

Fold = Callable[[str, Sequence[Part]], Nothing]


class Reductions(Roles):
    """What all reductions share: they reduce in rank order, ((x0 + x1) + x2) + …"""

    def _reducing(self, call: str, part: Part, op: Any, fold: Fold, root: int | None = None) -> Plan:
        op = as_op(op)
        if part.send is not None:
            part.op = op.on(part.send.datatype)
        signature = self._signature(call, part.send, reduction=op.name, root=root)
        return Plan(signature, part, partial(fold, call))

    def _pair(self, call: str, sendbuf: Any, recvbuf: Any) -> Part:
        """Return the part of a rank that sends and receives equally much."""
        recv = buffer(recvbuf, call, writable=True)
        send = recv if self._is_in_place(sendbuf) else buffer(sendbuf, call)
        check_own(call, send, recv, elements_of(send))
        return Part(self._me, send, recv, hears=self._others)


class ArrayReductions(Reductions):
    """Reductions, each described once, in its three forms: `Reduce`, `Ireduce`, `Reduce_init`, …

    Between two groups (in an intercommunicator) each group receives what the other group reduces.
    """

    def _reduce(self, call: str, sendbuf: Any, recvbuf: Any, op: Any = SUM, root: int = 0) -> Plan:
        """Reduce every rank's array, element by element, in rank order; the root gets the result."""
        role = self._role(call, root)
        if role.is_root and role.is_peer:
            part = self._pair(call, sendbuf, recvbuf)
        elif role.is_root:
            part = Part(self._me, recv=buffer(recvbuf, call, writable=True), hears=self._others)
        elif role.is_peer:
            part = Part(self._me, buffer(sendbuf, call))
        else:
            part = Part(self._me)
        return self._reducing(call, part, op, folding.reduce, root)

    def _allreduce(self, call: str, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> Plan:
        """Reduce every rank's array, element by element, in rank order; everybody gets the result."""
        return self._reducing(call, self._pair(call, sendbuf, recvbuf), op, folding.reduce)

    def _reduce_scatter_block(self, call: str, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> Plan:
        """Reduce every rank's array in rank order; each rank gets its block of the result."""
        if self._is_in_place(sendbuf):
            send = recv = even_buffer(recvbuf, call, self.size, writable=True)
        else:
            recv = buffer(recvbuf, call, writable=True)
            send = even_buffer(sendbuf, call, self.size)
            check_own(call, send, recv, elements_of(send, 0))
        part = Part(self._me, send, recv, hears=self._others, takes=elements_of(send, 0))
        return self._reducing(call, part, op, folding.reduce_scatter)

    def _reduce_scatter(
        self, call: str, sendbuf: Any, recvbuf: Any, recvcounts: Sequence[int] | None = None, op: Any = SUM
    ) -> Plan:
        """Reduce every rank's array in rank order; rank i gets the next `recvcounts[i]` elements."""
        recv = buffer(recvbuf, call, writable=True)
        in_place = self._is_in_place(sendbuf)
        send = recv if in_place else buffer(sendbuf, call)
        takes = elements_of(recv)
        if recvcounts is not None:
            takes = self._share_of(call, recvcounts, send.count) * unit_of(recv.datatype)
        elif in_place:
            raise error("ERR_COUNT", f"{call}: IN_PLACE does not say who gets how much; pass recvcounts")
        if not in_place:
            check_own(call, send, recv, takes)
        return self._reducing(
            call, Part(self._me, send, recv, hears=self._others, takes=takes), op, folding.reduce_scatter
        )

    def _share_of(self, call: str, recvcounts: Sequence[int], count: int) -> int:
        counts = [index(each) for each in recvcounts]
        if len(counts) != self.size or (sum(counts) != count and not self._context.is_inter):
            raise error(
                "ERR_COUNT",
                f"{call}: recvcounts {counts} for {self.size} ranks and {count} elements sent; pass one for "
                f"each rank, {count} together",
            )
        return counts[self.rank]

    Reduce, Ireduce, Reduce_init = forms("Reduce", _reduce)
    Allreduce, Iallreduce, Allreduce_init = forms("Allreduce", _allreduce)
    Reduce_scatter, Ireduce_scatter, Reduce_scatter_init = forms("Reduce_scatter", _reduce_scatter)
    Reduce_scatter_block, Ireduce_scatter_block, Reduce_scatter_block_init = forms(
        "Reduce_scatter_block", _reduce_scatter_block
    )


class ArrayScans(Reductions):
    """Sums of a rank and those before it: within one group only."""

    def _scan(self, call: str, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> Plan:
        """Reduce the arrays of ranks 0 to this one, in rank order."""
        return self._reducing(call, self._pair(call, sendbuf, recvbuf), op, folding.scan)

    def _exscan(self, call: str, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> Plan:
        """Reduce the arrays of ranks 0 to the one before this; rank 0's buffer stays as it is."""
        return self._reducing(call, self._pair(call, sendbuf, recvbuf), op, folding.exscan)

    Scan, Iscan, Scan_init = forms("Scan", _scan)
    Exscan, Iexscan, Exscan_init = forms("Exscan", _exscan)
