"""mpi4py's capital-letter collectives on virtual ranks: of the memory of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.signature import Signature
from tpsim.comm.virtual import collectives
from tpsim.comm.virtual.buffers import flat
from tpsim.comm.virtual.constants import SUM, as_op, is_in_place
from tpsim.comm.virtual.endpoint import Endpoint

Array = NDArray[Any]


class ArrayCollectives(Endpoint):
    """Reductions add in rank order: ((x0 + x1) + x2) + …"""

    def Barrier(self) -> None:
        """Return when every rank has called."""
        self.together(Signature("Barrier"), None, lambda values: values)

    def Bcast(self, buf: Any, root: int = 0) -> None:
        """Copy the root's array to every rank's."""
        self._check_rank("Bcast", "root", root)
        data = flat(buf, "Bcast", writable=self.rank != root)
        self.together(_call("Bcast", data, place=root), data, lambda all_: collectives.broadcast(all_, root))

    def Allreduce(self, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> None:
        """Reduce every rank's array, element by element, in rank order; everybody gets the result."""
        op, result = as_op(op), flat(recvbuf, "Allreduce", writable=True)
        data = result if is_in_place(sendbuf) else flat(sendbuf, "Allreduce")
        _check_fit("Allreduce", data, result, data.size)
        total = self.together(
            _call("Allreduce", data, op.name), data, lambda all_: collectives.reduce(all_, op)
        )
        np.copyto(result, total)

    def Reduce(self, sendbuf: Any, recvbuf: Any, op: Any = SUM, root: int = 0) -> None:
        """Reduce every rank's array in rank order; the root gets the result."""
        self._check_rank("Reduce", "root", root)
        op, result = as_op(op), None
        if self.rank == root:
            result = flat(recvbuf, "Reduce", writable=True)
        data = result if result is not None and is_in_place(sendbuf) else flat(sendbuf, "Reduce")
        if result is not None:
            _check_fit("Reduce", data, result, data.size)
        signature = _call("Reduce", data, op.name, root)
        total = self.together(signature, data, lambda all_: collectives.reduce(all_, op))
        if result is not None:
            np.copyto(result, total)

    def Allgather(self, sendbuf: Any, recvbuf: Any) -> None:
        """Put every rank's array behind one another, in rank order, on every rank."""
        result = flat(recvbuf, "Allgather", blocks=self.size, writable=True)
        data = self._own_block(result) if is_in_place(sendbuf) else flat(sendbuf, "Allgather")
        _check_fit("Allgather", data, result, data.size * self.size)
        np.copyto(result, self.together(_call("Allgather", data), data, collectives.gather))

    def Gather(self, sendbuf: Any, recvbuf: Any, root: int = 0) -> None:
        """Put every rank's array behind one another on the root."""
        self._check_rank("Gather", "root", root)
        result = None
        if self.rank == root:
            result = flat(recvbuf, "Gather", blocks=self.size, writable=True)
        in_place = result is not None and is_in_place(sendbuf)
        data = self._own_block(result) if result is not None and in_place else flat(sendbuf, "Gather")
        if result is not None:
            _check_fit("Gather", data, result, data.size * self.size)
        joined = self.together(_call("Gather", data, place=root), data, collectives.gather)
        if result is not None:
            np.copyto(result, joined)

    def Scatter(self, sendbuf: Any, recvbuf: Any, root: int = 0) -> None:
        """Give every rank its block of the root's array."""
        self._check_rank("Scatter", "root", root)
        whole = flat(sendbuf, "Scatter", blocks=self.size) if self.rank == root else None
        in_place = whole is not None and is_in_place(recvbuf)
        if whole is not None and in_place:
            block = self._own_block(whole)
        else:
            block = flat(recvbuf, "Scatter", writable=True)
        if whole is not None:
            _check_fit("Scatter", whole, block, whole.size // self.size)
            if whole.size % self.size:
                raise ValueError(_uneven("Scatter", whole.size, self.size))
        signature = _call("Scatter", block, place=root)
        own = self.together(signature, whole, lambda all_: collectives.scatter(all_[root], self.size))
        if not in_place:
            np.copyto(block, own)

    def Reduce_scatter_block(self, sendbuf: Any, recvbuf: Any, op: Any = SUM) -> None:
        """Reduce every rank's array in rank order; rank i gets block i of the result."""
        op, name = as_op(op), "Reduce_scatter_block"
        in_place = is_in_place(sendbuf)
        result = flat(recvbuf, name, writable=True, blocks=self.size if in_place else 1)
        data = result if in_place else flat(sendbuf, name, blocks=self.size)
        if data.size % self.size:
            raise ValueError(_uneven(name, data.size, self.size))
        size = data.size // self.size
        own = result[:size] if in_place else result
        _check_fit(name, data, own, size)
        total = self.together(_call(name, data, op.name), data, lambda all_: collectives.reduce(all_, op))
        np.copyto(own, total[self.rank * size : (self.rank + 1) * size])

    def Alltoall(self, sendbuf: Any, recvbuf: Any) -> None:
        """Block j of rank i becomes block i of rank j."""
        result = flat(recvbuf, "Alltoall", blocks=self.size, writable=True)
        data = result if is_in_place(sendbuf) else flat(sendbuf, "Alltoall", blocks=self.size)
        _check_fit("Alltoall", data, result, data.size)
        if data.size % self.size:
            raise ValueError(_uneven("Alltoall", data.size, self.size))
        np.copyto(result, self.together(_call("Alltoall", data), data, collectives.all_to_all))

    def _own_block(self, whole: Array) -> Array:
        size = whole.size // self.size
        return whole[self.rank * size : (self.rank + 1) * size]


def _call(operation: str, data: Array, reduction: str = "", place: int | None = None) -> Signature:
    return Signature(operation, (data.size,), data.dtype, reduction, place)


def _check_fit(call: str, data: Array, result: Array, size: int) -> None:
    if result.size != size or result.dtype != data.dtype:
        raise ValueError(
            f"{call}: {data.size} × {data.dtype} sent gives {size} × {data.dtype}, and the receive buffer "
            f"is {result.size} × {result.dtype}; make it {size} × {data.dtype}"
        )


def _uneven(call: str, count: int, ranks: int) -> str:
    return f"{call}: {count} elements can't be cut into {ranks} equal blocks; pad to a multiple of {ranks}"
