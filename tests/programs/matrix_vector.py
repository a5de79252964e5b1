"""The power method: each rank holds some rows of A and the whole of x, which Allgather puts together."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
rows = 6
n = rows * size

index = np.arange(n)
whole = 1.0 / (1 + np.abs(index[:, None] - index))
mine = whole[rank * rows : (rank + 1) * rows].copy()

x = np.ones(n)
eigenvalue = np.zeros(1)
for _ in range(30):
    part = mine @ x
    comm.Allreduce(np.array([part @ x[rank * rows : (rank + 1) * rows]]), eigenvalue, op=MPI.SUM)
    comm.Allgather([part, MPI.DOUBLE], [x, MPI.DOUBLE])
    x /= np.linalg.norm(x)

print(f"rank {rank}: largest eigenvalue {eigenvalue[0]:.9f}, x starts with {x[:3].round(6).tolist()}")
