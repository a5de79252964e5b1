"""A wrong schedule: same half."""

from tpsim.lab.puzzles import Device

FAILS = "missing"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a, b = d.load("X"), d.load("A", cols=(0, 2)), d.load("B", rows=(0, 2))
    p = d.matmul(d.gelu(d.matmul(x, a)), b)
    d.wait(d.begin_all_reduce(p))
