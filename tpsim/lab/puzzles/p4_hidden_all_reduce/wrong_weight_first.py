"""A wrong schedule: weight first."""

from tpsim.lab.puzzles import Device

FAILS = "time"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, dy = d.load("X"), d.load("A", cols=mine), d.load("dY", cols=mine)
    d.matmul(x.T, dy)
    d.wait(d.begin_all_reduce(d.matmul(dy, a.T)))
