"""The solution."""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X"), d.load("A", cols=mine), d.load("B", rows=mine)
    p = d.matmul(d.gelu(d.matmul(x, a)), b)
    d.wait(d.begin_all_reduce(p))
