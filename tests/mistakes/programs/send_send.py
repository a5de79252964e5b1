"""Both ranks send before they receive: right as long as somebody buffers what they send."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
other = 1 - comm.rank
mine, theirs = np.full(100, float(comm.rank)), np.empty(100)
comm.Send(mine, dest=other)
comm.Recv(theirs, source=other)
