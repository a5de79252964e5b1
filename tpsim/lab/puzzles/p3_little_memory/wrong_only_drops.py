"""A wrong schedule: only drops."""

from tpsim.lab.puzzles import Device

FAILS = "memory"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X"), d.load("A", cols=mine), d.load("B", rows=mine)
    h = d.matmul(x, a)
    d.drop(x, a)
    g = d.gelu(h)
    d.drop(h)
    p = d.matmul(g, b)
    d.drop(g, b)
    d.wait(d.begin_all_reduce(p))
