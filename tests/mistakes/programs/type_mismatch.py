"""NumPy's integers are sent, and received into single-precision floats of which there are enough."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
if comm.rank == 0:
    comm.Send(np.arange(10), dest=1)
else:
    x = np.empty(20, np.float32)
    comm.Recv(x, source=0)
