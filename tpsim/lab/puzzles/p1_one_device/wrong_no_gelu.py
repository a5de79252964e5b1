"""A wrong schedule: no gelu."""

from tpsim.lab.puzzles import Device

FAILS = "missing"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a, b = d.load("X"), d.load("A"), d.load("B")
    h = d.matmul(x, a)
    d.drop(x, a)
    d.matmul(h, b)
