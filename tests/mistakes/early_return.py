"""Rank 1 has nothing to do, and returns before the others' collective."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> object:
    group = tpsim.Group(comm)
    x = np.ones(0 if group.rank == 1 else 4)
    if x.size == 0:
        return x
    return group.all_reduce(x)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
