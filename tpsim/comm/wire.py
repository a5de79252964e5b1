"""The way of an array from one rank to another: as it is, checked by a sum, or damaged by a fault."""

from __future__ import annotations

import zlib
from typing import Any, Literal, NamedTuple

import numpy as np

from tpsim.comm.backend import Array
from tpsim.comm.errors import CorruptionError
from tpsim.comm.faults.damage import damaged
from tpsim.comm.port import CommPort
from tpsim.comm.virtual import VirtualComm

Check = bool | Literal["data"]
"""What ranks check: nothing, their calls, or also that data arrives as it was sent."""


class Sealed(NamedTuple):
    """An array on its way, and the checksum of what was sent."""

    data: Array
    checksum: int

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.data.itemsize


def checksum(x: Array) -> int:
    """Return the CRC-32 of a contiguous array's bytes: it tells any change of up to 32 bits in a row."""
    return zlib.crc32(x.reshape(-1).view(np.uint8).data)


def corruption(operation: str, comm: Any, sender: int) -> CorruptionError:
    """Return the error that says that what a rank of `comm` sent changed on its way."""
    return CorruptionError(
        f"{operation}: what rank {_world_rank(comm, sender)} sent is not what arrived, by their checksums: "
        "it was written to before the call was complete, or damaged on the way; leave an array alone until "
        "`wait` has returned, and where that is so, suspect the memory or the network of that rank"
    )


def _world_rank(comm: Any, rank: int) -> int:
    """Return a rank's number among all ranks, by which reports name it."""
    if isinstance(comm, VirtualComm):
        return comm.world_rank(rank)
    from mpi4py import MPI

    ranks: list[int] = comm.Get_group().Translate_ranks([rank], MPI.COMM_WORLD.Get_group())
    return ranks[0]


class CheckedPort:
    """A port whose every message is followed by its checksum.

    Checksums are no part of what an algorithm sends, and are not counted.

    Parameters
    ----------
    port : CommPort
        Whose messages they are.
    comm : VirtualComm or mpi4py.MPI.Comm
    tag : int
        The port's.
    operation : str
        The call that they carry out, for the error.
    check : bool
        Without it, messages only may be damaged.
    seed : int, optional
        A fault: a bit of the first message is turned over, after its checksum was taken.
    """

    def __init__(
        self, port: CommPort, comm: Any, tag: int, operation: str, *, check: bool, seed: int | None
    ) -> None:
        self.rank: int = port.rank
        self.size: int = port.size
        self._port = port
        self._aside = CommPort(comm, tag)  # messages of one tag keep their order: data, then its checksum
        self._comm = comm
        self._operation = operation
        self._check = check
        self._seed = seed

    def send(self, buffer: Array, to: int) -> Any:
        """Start a send, and that of its checksum."""
        told = np.array([checksum(buffer)], np.uint32) if self._check else None
        if self._seed is not None:
            buffer, self._seed = damaged(buffer, self._seed), None
        request = self._port.send(buffer, to)
        return request if told is None else _Both(request, self._aside.send(told, to), (buffer, told))

    def recv(self, buffer: Array, source: int) -> Any:
        """Start a receive, and that of its checksum."""
        request = self._port.recv(buffer, source)
        if not self._check:
            return request
        told = np.empty(1, np.uint32)

        def compare() -> None:
            if told[0] != checksum(buffer):
                raise corruption(self._operation, self._comm, source)

        return _Both(request, self._aside.recv(told, source), (buffer, told), compare)


class _Both:
    """Two requests as one."""

    def __init__(self, first: Any, second: Any, kept: Any, then: Any = None) -> None:
        self._requests = (first, second)
        self._kept = kept  # buffers must live as long as their requests
        self._then = then

    def Wait(self) -> bool:
        for request in self._requests:
            request.Wait()
        return self._done()

    def Test(self) -> bool:
        first, second = (request.Test() for request in self._requests)
        return first and second and self._done()

    def _done(self) -> bool:
        if self._then is not None:
            self._then()
        return True
