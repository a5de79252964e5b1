"""Rank 2 gathers where the others reduce."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> object:
    group = tpsim.Group(comm)
    x = np.ones(4)
    if group.rank == 2:
        return group.all_gather(x)
    return group.all_reduce(x)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
