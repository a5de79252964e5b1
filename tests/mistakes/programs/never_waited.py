"""Rank 1 begins to receive, and reads the array at once."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
x = np.zeros(5)
if comm.rank == 0:
    comm.Send(np.arange(5.0), dest=1)
else:
    comm.Irecv(x, source=0)
    print(f"the sum is {x.sum()}")
