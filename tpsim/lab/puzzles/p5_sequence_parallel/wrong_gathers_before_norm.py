"""A wrong schedule: gathers before norm."""

from tpsim.lab.puzzles import Device

FAILS = "memory"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X", rows=mine), d.load("A", cols=mine), d.load("B", rows=mine)
    whole = d.wait(d.begin_all_gather(x))
    h = d.matmul(d.norm(whole), a)
    d.wait(d.begin_all_reduce(d.matmul(d.gelu(h), b)))
