"""A wrong schedule: keeps the gathered."""

from tpsim.lab.puzzles import Device

FAILS = "memory"


def schedule(d: Device) -> None:
    """Note this device's steps."""
    mine = (d.rank, d.size)
    x, a, b = d.load("X", rows=mine), d.load("A", cols=mine), d.load("B", rows=mine)
    h = d.matmul(d.wait(d.begin_all_gather(d.norm(x))), a)
    d.wait(d.begin_reduce_scatter(d.matmul(d.gelu(h), b)))
