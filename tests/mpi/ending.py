"""How a rank ends: `ending.py HOW [RANK]`; RANK alone, or every rank without it."""

import sys
from typing import Any

import numpy as np

import tpsim

HOW = sys.argv[1]
RANKS = {int(text) for text in sys.argv[2:]}


def main(comm: Any) -> int:
    group = tpsim.Group(comm)
    if not RANKS or comm.rank in RANKS:
        if HOW == "raise":
            raise KeyError("nobody's")
        if HOW == "no such reduction":
            tpsim.Group(comm, "mpi").all_reduce(np.ones(2, np.complex64), "max")
        if HOW.isdigit():
            sys.exit(int(HOW))
        sys.exit(HOW)
    if HOW != "0":
        group.barrier()  # never completes
    return group.rank


if __name__ == "__main__":
    tpsim.launch(main)
