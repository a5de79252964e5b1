"""Y = X A with A cut by columns (nothing is sent), and by rows (one all-reduce)."""

import numpy as np

import tpsim


def main(comm):
    group = tpsim.Group(comm)
    rng = np.random.default_rng(0)  # the same on every rank
    X, A = rng.integers(-3, 4, (3, 8)), rng.integers(-3, 4, (8, 4))

    by_columns = X @ np.split(A, comm.size, axis=1)[comm.rank]  # [3, 4/t]: whole entries of some columns
    x, rows = np.split(X, comm.size, axis=1)[comm.rank], np.split(A, comm.size, axis=0)[comm.rank]
    term = x @ rows  # [3, 4]: one term of every entry
    by_rows = group.all_reduce(term)

    told = comm.gather((by_columns[0], term[0]))
    joined = group.all_gather(by_columns, axis=1)
    if comm.rank == 0:
        for rank, (columns, part) in enumerate(told):
            print(f"rank {rank}: its columns of Y's first row {columns}, its term of it {part}")
        print(f"Y's first row {(X @ A)[0]}")
        print("joined columns equal Y:", np.array_equal(joined, X @ A))
        print("summed terms equal Y:  ", np.array_equal(by_rows, X @ A))


if __name__ == "__main__":
    tpsim.launch(main)
