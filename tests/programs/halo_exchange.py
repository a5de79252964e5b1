"""Heat on a plate: a Cartesian grid of ranks, each with a block and a border of its neighbours' cells."""

import numpy as np
from mpi4py import MPI

dims = MPI.Compute_dims(MPI.COMM_WORLD.Get_size(), 2)
grid = MPI.COMM_WORLD.Create_cart(dims, periods=[False, True], reorder=False)
row, column = grid.Get_coords(grid.Get_rank())
above, below = grid.Shift(0, 1)
west, east = grid.Shift(1, 1)

height, width = 4, 5
plate = np.zeros((height + 2, width + 2))
if above == MPI.PROC_NULL:
    plate[0] = 100.0  # the hot edge

a_column = MPI.DOUBLE.Create_vector(height, 1, width + 2).Commit()


def column_at(index: int) -> list[object]:
    return [plate.reshape(-1)[width + 2 + index :], 1, a_column]


for _ in range(40):
    grid.Sendrecv(plate[1], dest=above, recvbuf=plate[-1], source=below)
    grid.Sendrecv(plate[-2], dest=below, recvbuf=plate[0], source=above)
    grid.Sendrecv(column_at(1), dest=west, recvbuf=column_at(width + 1), source=east)
    grid.Sendrecv(column_at(width), dest=east, recvbuf=column_at(0), source=west)
    plate[1:-1, 1:-1] = (plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]) / 4
a_column.Free()

heat = grid.reduce(plate[1:-1, 1:-1].sum(), op=MPI.SUM, root=0)
print(f"rank at ({row}, {column}): its rows have {plate[1:-1, 1:-1].mean(axis=1).round(4).tolist()}")
if grid.Get_rank() == 0:
    print(f"all heat: {heat:.6f}")
grid.Free()
