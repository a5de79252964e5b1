"""Rank 0 computes the next step in the array that it still sends."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
x = np.arange(5.0)
if comm.rank == 0:
    request = comm.Isend(x, dest=1)
    x *= 2
    request.Wait()
else:
    comm.Recv(x, source=0)
