"""Rank 0 tells the workers to stop, and rank 1 has stopped on its own."""

from mpi4py import MPI

comm = MPI.COMM_WORLD
STOP = 99
if comm.rank == 0:
    for worker in range(1, comm.size):
        comm.send(None, dest=worker, tag=STOP)
elif comm.rank != 1:
    comm.recv(source=0, tag=STOP)
