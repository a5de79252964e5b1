"""Rank 0 never comes, and nobody watches: only Ctrl-C ends this."""

import time
from typing import Any

import tpsim


def main(comm: Any) -> None:
    group = tpsim.Group(comm, check=False)
    if group.rank == 0:
        time.sleep(100)
    group.barrier()


if __name__ == "__main__":
    tpsim.launch(main)
