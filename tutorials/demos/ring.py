"""A ring all-reduce by hand, with mpi4py's own calls: reduce-scatter around the circle, then all-gather."""

import numpy as np

import tpsim


def ring_all_reduce(comm, x):
    rank, size = comm.rank, comm.size
    left, right = (rank - 1) % size, (rank + 1) % size
    chunks = np.array_split(x.copy(), size)
    for step in range(size - 1):  # each chunk goes around once, and collects a term on every rank
        outgoing, mine = chunks[(rank - step) % size], chunks[(rank - step - 1) % size]
        arriving = np.empty_like(mine)
        comm.Sendrecv(outgoing, dest=right, recvbuf=arriving, source=left)
        mine += arriving
    for step in range(size - 1):  # the sums go around once
        outgoing, mine = chunks[(rank + 1 - step) % size], chunks[(rank - step) % size]
        comm.Sendrecv(outgoing, dest=right, recvbuf=mine, source=left)
    return np.concatenate(chunks)


def main(comm):
    x = np.random.default_rng(comm.rank).standard_normal(10)
    by_hand = ring_all_reduce(comm, x)
    library = tpsim.Group(comm, "ring").all_reduce(x)
    bits = comm.gather((by_hand.tobytes() == library.tobytes(), by_hand[:3]))
    if comm.rank == 0:
        for rank, (equal, first) in enumerate(bits):
            print(f"rank {rank}: {first.round(6)} …, the same bits as Group.all_reduce: {equal}")


if __name__ == "__main__":
    tpsim.launch(main)
