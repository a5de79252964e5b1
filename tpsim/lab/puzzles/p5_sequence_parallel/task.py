"""5 · Cut the sequence too, keep what backward needs

Y = gelu(N A) B with N = norm(X), on four devices, in training: backward needs X, N, H = N A and G = gelu(H),
so at the end the devices *together* hold X, N, H, G and Y. X [4096, 4096] lies cut by rows, a quarter on each
device. Whole copies of X, N and Y on each device, as without sequence parallelism, are too much.

Target: 184 MiB on each device and 1.35 ms.
Devices: bfloat16 at 400 TFLOP/s, 2 TB/s of memory. Links: 10 µs a message, 100 GB/s. Rings.

    d.rank, d.size                          this device, and how many there are
    d.load("A", cols=(d.rank, d.size))      place a share of A; rows=(0, 2) is the upper half; all loads first
    d.matmul(x, a), d.gelu(h)               new blocks; a.T is a transposed
    d.begin_all_reduce(p)                   the sum over devices, in the place of p; goes on beside compute
    d.wait(pending)                         returns its block; work from here on starts when it has ended
    d.drop(h, x)                            gives memory back, nothing else does
    d.norm(x)                               needs whole rows, not all rows
    d.begin_all_gather(n, axis=0)           the devices' rows (1: columns) one after another: a new block
    d.begin_reduce_scatter(p, axis=0)       the sum over devices, of which each gets its share: a new block

Check it with: tpsim lab puzzles check 5
"""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    raise NotImplementedError
