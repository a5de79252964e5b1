"""Each collective on small numbers: what every rank has before and after it."""

import numpy as np

import tpsim


def main(comm):
    group = tpsim.Group(comm)
    mine = 10 * comm.rank + np.arange(comm.size)  # rank 2 of 4 has [20 21 22 23]
    calls = {
        "broadcast from 1": lambda: group.broadcast(mine, root=1 % comm.size),
        "all_reduce": lambda: group.all_reduce(mine),
        "all_gather": lambda: group.all_gather(mine[:1]),
        "reduce_scatter": lambda: group.reduce_scatter(mine),
        "all_to_all": lambda: group.all_to_all(mine),
    }
    for name, call in calls.items():
        with tpsim.Trace() as trace:
            after = call()
        sent = sum(event.bytes_sent for event in trace.collectives)
        lines = comm.gather(f"  rank {comm.rank}: {mine} → {after}, sends {sent} bytes")
        if comm.rank == 0:
            print(name, *lines, sep="\n")


if __name__ == "__main__":
    tpsim.launch(main)
