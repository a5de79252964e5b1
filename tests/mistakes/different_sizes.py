"""Rank 3's array is longer than the others'."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> object:
    group = tpsim.Group(comm)
    x = np.ones(5 if group.rank == 3 else 4)
    return group.all_reduce(x)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
