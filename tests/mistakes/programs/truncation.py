"""The message is longer than the array that it is received into."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
if comm.rank == 0:
    comm.Send(np.arange(20.0), dest=1)
else:
    part = np.empty(10)
    comm.Recv(part, source=0)
