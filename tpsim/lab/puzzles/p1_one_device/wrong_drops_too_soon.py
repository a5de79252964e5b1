"""A wrong schedule: drops too soon."""

from tpsim.lab.puzzles import Device

FAILS = "not there any more"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a, b = d.load("X"), d.load("A"), d.load("B")
    h = d.matmul(x, a)
    d.drop(x, a, b)
    g = d.gelu(h)
    d.matmul(g, b)
