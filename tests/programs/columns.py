"""Columns of a row-major matrix, dealt out and collected without packing: derived datatypes."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
rows = 3

matrix = np.arange(rows * size, dtype="f8").reshape(rows, size) if rank == 0 else None
strided = MPI.DOUBLE.Create_vector(rows, 1, size)
a_column = strided.Create_resized(0, MPI.DOUBLE.Get_extent()[1]).Commit()
strided.Free()

mine = np.empty(rows)
comm.Scatter(None if matrix is None else [matrix, 1, a_column], mine, root=0)
comm.Gather(-mine, None if matrix is None else [matrix, 1, a_column], root=0)
a_column.Free()

record = MPI.Datatype.Create_struct([1, 2], [0, 8], [MPI.INT, MPI.DOUBLE])
record = record.Create_resized(0, 24).Commit()
entry = np.zeros(1, dtype=np.dtype([("id", "i4"), ("pad", "i4"), ("ends", "f8", 2)]))
entry["id"], entry["ends"] = rank, (mine[0], mine[-1])
entries = np.zeros(size, dtype=entry.dtype)
comm.Allgather([entry, record], [entries, 1, record])
record.Free()

print(f"rank {rank}: column {mine.tolist()}, everybody's {entries[['id', 'ends']].tolist()}")
if matrix is not None:
    print(matrix.tolist())
