"""Both ranks receive before they send."""

from mpi4py import MPI

comm = MPI.COMM_WORLD
other = 1 - comm.rank
theirs = comm.recv(source=other)
comm.send(comm.rank, dest=other)
