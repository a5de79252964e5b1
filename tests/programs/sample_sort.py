"""Sorting across ranks: splitters by Allgather, then each number to the rank it belongs to, by Alltoallv."""

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()

numbers = np.sort(np.random.default_rng(rank).integers(0, 1000, 12 + rank))
sample = numbers[np.linspace(0, numbers.size - 1, size, dtype=int)].copy()
samples = np.empty(size * size, dtype=numbers.dtype)
comm.Allgather(sample, samples)
splitters = np.sort(samples)[size::size]

ends = np.searchsorted(numbers, splitters)
starts = np.array([0, *ends])
send_counts = np.diff([*starts, numbers.size])
recv_counts = np.empty_like(send_counts)
comm.Alltoall(send_counts, recv_counts)
mine = np.empty(recv_counts.sum(), dtype=numbers.dtype)
comm.Alltoallv([numbers, (send_counts, starts)], [mine, recv_counts])
mine.sort()

print(f"rank {rank} holds {mine.tolist()}")
