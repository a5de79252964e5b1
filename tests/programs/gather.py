"""Rank 0 collects what the ranks have: objects, equal rows, and rows of different length."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

squares = comm.gather((rank, rank**2), root=0)

table = np.empty((size, 4), dtype="i4") if rank == 0 else None
comm.Gather(np.arange(4, dtype="i4") + 10 * rank, table, root=0)

mine = np.full(rank, rank, dtype="f8")
lengths = np.array(comm.allgather(mine.size))
everything = np.empty(lengths.sum())
starts = np.cumsum(lengths) - lengths
comm.Gatherv(mine, [everything, lengths, starts, MPI.DOUBLE], root=0)

if rank == 0:
    assert table is not None
    print(squares, table.tolist(), everything.tolist(), sep="\n")
