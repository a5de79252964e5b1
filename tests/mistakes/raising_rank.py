"""Rank 1 raises while the others wait for it."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> object:
    group = tpsim.Group(comm)
    weights = {0: 1.0, 2: 3.0, 3: 4.0}
    x = np.full(4, weights[group.rank])
    return group.all_reduce(x)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
