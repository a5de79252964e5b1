"""Only rank 0 wants to know the loss, and asks its data-parallel group in which nobody else is listening."""

from typing import Any

import numpy as np

import tpsim


def main(comm: Any) -> object:
    mesh = tpsim.Mesh(comm, tp=2)
    loss = np.ones(1)
    if comm.rank == 0:
        loss = mesh.dp.all_reduce(loss)
    return mesh.tp.all_reduce(np.ones(4)), loss


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
