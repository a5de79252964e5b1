"""Rank 0 deals out: one object each, equal rows, and rows of different length."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

word = comm.scatter([f"part {number}" for number in range(size)] if rank == 0 else None, root=0)

rows = np.arange(3 * size, dtype="i8").reshape(size, 3) if rank == 0 else None
row = np.empty(3, dtype="i8")
comm.Scatter(rows, row, root=0)

counts = [number + 1 for number in range(size)]
triangle = np.concatenate([np.full(n, n, dtype="f4") for n in counts]) if rank == 0 else None
side = np.empty(rank + 1, dtype="f4")
comm.Scatterv([triangle, counts, None, MPI.FLOAT], side, root=0)

print(f"rank {rank}: {word}, row {row.tolist()}, side {side.tolist()}")
