"""Only rank 0 broadcasts, as if the others had nothing to do with it."""

from mpi4py import MPI

comm = MPI.COMM_WORLD
settings = None
if comm.rank == 0:
    settings = comm.bcast({"steps": 10}, root=0)
print(f"rank {comm.rank} begins with {settings}")
