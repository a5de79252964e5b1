"""Rank 0 sends to rank 1, which receives nothing."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> None:
    group = tpsim.Group(comm)
    if group.rank == 0:
        group.send(np.ones(4), to=1)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
