"""A wrong schedule: gathers between."""

from tpsim.lab.puzzles import Device

FAILS = "memory"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X"), d.load("A", cols=mine), d.load("B", cols=mine)
    g = d.wait(d.begin_all_gather(d.gelu(d.matmul(x, a)), axis=1))
    d.wait(d.begin_all_gather(d.matmul(g, b), axis=1))
