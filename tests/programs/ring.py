"""A token goes around a ring and grows; then everybody's array goes around at once."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
left, right = (rank - 1) % size, (rank + 1) % size

if rank == 0:
    comm.send(["0"], dest=right)
    token = comm.recv(source=left)
    print("the token went", " -> ".join([*token, "0"]))
else:
    token = comm.recv(source=left)
    comm.send([*token, str(rank)], dest=right)

travelling = np.full(3, rank, dtype="i4")
seen = [rank]
for _ in range(size - 1):
    comm.Sendrecv_replace(travelling, dest=right, source=left)
    seen.append(int(travelling[0]))
print(f"rank {rank} saw {seen}")
