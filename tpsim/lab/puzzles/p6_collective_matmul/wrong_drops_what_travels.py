"""A wrong schedule: drops what travels."""

from tpsim.lab.puzzles import Device

FAILS = "still travelling"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a = d.load("X", rows=(d.rank, d.size)), d.load("A", cols=(d.rank, d.size))
    for _ in range(d.size - 1):
        pending = d.begin_shift(x)
        d.matmul(x, a)
        d.drop(x)
        x = d.wait(pending)
    d.matmul(x, a)
