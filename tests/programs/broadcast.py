"""Rank 0 tells everybody: a settings dictionary as an object, an array through memory."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank = comm.Get_rank()

settings = {"steps": 100, "schemes": ("euler", "heun"), "pi": 3.14} if rank == 0 else None
settings = comm.bcast(settings, root=0)

table = np.linspace(0, 1, 6).reshape(2, 3) if rank == 0 else np.empty((2, 3))
comm.Bcast(table, root=0)

only_two = np.array([rank] * 4, dtype="i4")
comm.Bcast([only_two, 2, MPI.INT], root=comm.Get_size() - 1)

print(f"rank {rank}: {settings}, {table.tolist()}, {only_two.tolist()}")
