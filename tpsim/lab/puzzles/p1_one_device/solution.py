"""The solution."""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a, b = d.load("X"), d.load("A"), d.load("B")
    h = d.matmul(x, a)
    d.drop(x, a)
    g = d.gelu(h)
    d.drop(h)
    d.matmul(g, b)
