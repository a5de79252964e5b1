"""A wrong schedule: whole weight."""

from tpsim.lab.puzzles import Device

FAILS = "memory"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a = d.load("X", rows=(d.rank, d.size)), d.load("A")
    d.matmul(x, a)
