"""A wrong schedule: waits first."""

from tpsim.lab.puzzles import Device

FAILS = "time"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a = d.load("X", rows=(d.rank, d.size)), d.load("A", cols=(d.rank, d.size))
    for _ in range(d.size - 1):
        following = d.wait(d.begin_shift(x))
        d.matmul(x, a)
        d.drop(x)
        x = following
    d.matmul(x, a)
