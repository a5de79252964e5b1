"""Scan, Exscan and a reduction of one's own: where each rank's lines start, and the largest so far."""

from typing import Any

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

lines = np.array([3 * rank % 5 + 1, rank], dtype="i4")
last = np.empty_like(lines)
comm.Scan(lines, last, op=MPI.SUM)
start = np.zeros_like(lines)
comm.Exscan(lines, start, op=MPI.SUM)
largest = comm.scan((int(lines[0]), rank), op=MPI.MAXLOC)


def compose(inner: Any, inout: Any, datatype: MPI.Datatype) -> None:
    """Compose x -> a x + b, which is associative but does not commute."""
    first, then = (np.frombuffer(memory, dtype="f8") for memory in (inner, inout))
    then[:] = first[0] * then[0], then[0] * first[1] + then[1]


affine = MPI.Op.Create(compose, commute=False)
composed = np.empty(2)
comm.Allreduce(np.array([rank + 2.0, 1.0]), composed, op=affine)
affine.Free()

print(f"rank {rank}: lines {start[0]} to {last[0]}, largest so far {largest}, all maps {composed.tolist()}")
