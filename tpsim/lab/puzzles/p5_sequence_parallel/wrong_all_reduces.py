"""A wrong schedule: all reduces."""

from tpsim.lab.puzzles import Device

FAILS = "time"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X", rows=mine), d.load("A", cols=mine), d.load("B", rows=mine)
    whole = d.wait(d.begin_all_gather(d.norm(x)))
    h = d.matmul(whole, a)
    d.drop(whole)
    d.wait(d.begin_all_reduce(d.matmul(d.gelu(h), b)))
