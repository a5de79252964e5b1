"""The message has tag 7, and is awaited with tag 8."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
x = np.zeros(3)
if comm.rank == 0:
    comm.Send(x, dest=1, tag=7)
else:
    comm.Recv(x, source=0, tag=8)
