"""A wrong schedule: gathers first."""

from tpsim.lab.puzzles import Device

FAILS = "time"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a = d.load("X", rows=(d.rank, d.size)), d.load("A", cols=(d.rank, d.size))
    d.matmul(d.wait(d.begin_all_gather(x)), a)
