"""A wrong schedule: one device waits."""

from tpsim.lab.puzzles import Device

FAILS = "left waiting"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X"), d.load("A", cols=mine), d.load("B", rows=mine)
    p = d.matmul(d.gelu(d.matmul(x, a)), b)
    if d.rank == 0:
        d.wait(d.begin_all_reduce(p))
