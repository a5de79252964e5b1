"""A grid of ranks by Split: sums along rows and columns, and a group of the even ranks."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
width = 2

row = comm.Split(color=rank // width, key=rank)
column = comm.Split(color=rank % width, key=-rank)  # from the last row to the first
sums = np.empty(2, dtype="i8")
row.Allreduce(np.array([rank]), sums[:1])
column.Allreduce(np.array([rank]), sums[1:])
order = column.allgather(rank)

world = comm.Get_group()
even = world.Incl(range(0, size, 2))
evens = comm.Create(even)
if evens != MPI.COMM_NULL:
    places = MPI.Group.Translate_ranks(even, None, world)
    print(f"even rank {rank} is {evens.Get_rank()} of {evens.Get_size()}, {places}")
    evens.Free()

print(f"rank {rank}: row {sums[0]}, column {sums[1]} in order {order}")
for group in (world, even):
    group.Free()
for part in (row, column):
    part.Free()
