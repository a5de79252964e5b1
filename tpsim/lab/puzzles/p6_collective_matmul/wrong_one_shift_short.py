"""A wrong schedule: one shift short."""

from tpsim.lab.puzzles import Device

FAILS = "missing"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a = d.load("X", rows=(d.rank, d.size)), d.load("A", cols=(d.rank, d.size))
    for _ in range(d.size - 2):
        pending = d.begin_shift(x)
        d.matmul(x, a)
        following = d.wait(pending)
        d.drop(x)
        x = following
    d.matmul(x, a)
