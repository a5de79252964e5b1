"""Rank 0 sends each other rank a greeting, then an array; both come back changed."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

if rank == 0:
    for other in range(1, size):
        comm.send({"to": other, "words": ["hello", "rank"]}, dest=other, tag=11)
        comm.Send(np.arange(5, dtype="f8") * other, dest=other, tag=22)
    for other in range(1, size):
        print(comm.recv(source=other, tag=11))
        squares = np.empty(5)
        status = MPI.Status()
        comm.Recv(squares, source=other, tag=MPI.ANY_TAG, status=status)
        print(f"tag {status.Get_tag()}, {status.Get_count(MPI.DOUBLE)} numbers: {squares}")
else:
    greeting = comm.recv(source=0, tag=11)
    numbers = np.empty(5)
    receive = comm.Irecv([numbers, MPI.DOUBLE], source=0, tag=22)
    comm.send(" ".join([*greeting["words"], str(greeting["to"])]), dest=0, tag=11)
    receive.Wait()
    comm.Isend([numbers**2, MPI.DOUBLE], dest=0, tag=33).Wait()
