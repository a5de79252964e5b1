"""A wrong schedule: never waits."""

from tpsim.lab.puzzles import Device

FAILS = "never waited for"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    halves = [d.load("X", rows=(i, 2)) for i in range(2)]
    a, b = d.load("A", cols=mine), d.load("B", rows=mine)
    sums = []
    for x in halves:
        h = d.matmul(x, a)
        d.drop(x)
        g = d.gelu(h)
        d.drop(h)
        sums.append(d.begin_all_reduce(d.matmul(g, b)))
        d.drop(g)
    d.wait(sums[0])
