"""2 · Two devices, and one all-reduce

The same MLP, Y = gelu(X A) B, on two devices that can't hold A and B. Cut each weight, by rows or by columns,
and place the shards so that one all-reduce is enough. Both devices run this one function.

Target: 320 MiB on each device and 1.85 ms.
Devices: bfloat16 at 400 TFLOP/s, 2 TB/s of memory. Links: 10 µs a message, 100 GB/s. Rings.
At the end, each device must hold all of Y. X may be loaded whole.

    d.rank, d.size                          this device, and how many there are
    d.load("A", cols=(d.rank, d.size))      place a share of A; rows=(0, 2) is the upper half; all loads first
    d.matmul(x, a), d.gelu(h)               new blocks; a.T is a transposed
    d.begin_all_reduce(p)                   the sum over devices, in the place of p; goes on beside compute
    d.wait(pending)                         returns its block; work from here on starts when it has ended
    d.drop(h, x)                            gives memory back, nothing else does

Check it with: tpsim lab puzzles check 2
"""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    raise NotImplementedError
