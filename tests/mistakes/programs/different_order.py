"""Rank 0 makes the same collectives as the others, in another order."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
total = np.zeros(1)
if comm.rank == 0:
    comm.Barrier()
    comm.Allreduce(np.ones(1), total)
else:
    comm.Allreduce(np.ones(1), total)
    comm.Barrier()
