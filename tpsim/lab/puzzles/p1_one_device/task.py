"""1 · One device: let go in time

An MLP on one device, Y = gelu(X A) B, with X [4096, 4096], A [4096, 16384], B [16384, 4096]. The schedule
below is right, but holds all that it ever made: 576 MiB. Make it fit.

Target: 416 MiB and 2.90 ms.
Devices: bfloat16 at 400 TFLOP/s, 2 TB/s of memory. Links: 10 µs a message, 100 GB/s. Rings.
A schedule holds no numbers: each block is known by what it means ("rows 0:2048 of X·A"), so what breaks a
rule is named. At the end, Y must be there.

    d.load("X")                     place a tensor in memory; all loads come first, and take no time
    d.matmul(x, a), d.gelu(h)       return new blocks
    d.drop(h, x)                    gives memory back; nothing else does

Check it with: tpsim lab puzzles check 1
"""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    x, a, b = d.load("X"), d.load("A"), d.load("B")
    h = d.matmul(x, a)
    g = d.gelu(h)
    d.matmul(g, b)
