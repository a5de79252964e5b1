"""4 · Hide f's all-reduce

The backward of a column-parallel linear layer, Y = X A, on two devices::

    dX = all-reduce(dY_r A_rᵀ)      dA_r = Xᵀ dY_r

dY [4096, 16384] lies cut by columns, one half on each device; X [4096, 4096] is whole on both, and A
[4096, 16384] is yours to place. One after another, both products and the all-reduce take 1.73 ms.

Target: 256 MiB on each device and 1.40 ms.
Devices: bfloat16 at 400 TFLOP/s, 2 TB/s of memory. Links: 10 µs a message, 100 GB/s. Rings.
At the end, each device must hold all of dX, and both together dA.

    d.rank, d.size                          this device, and how many there are
    d.load("A", cols=(d.rank, d.size))      place a share of A; rows=(0, 2) is the upper half; all loads first
    d.matmul(x, a), d.gelu(h)               new blocks; a.T is a transposed
    d.begin_all_reduce(p)                   the sum over devices, in the place of p; goes on beside compute
    d.wait(pending)                         returns its block; work from here on starts when it has ended
    d.drop(h, x)                            gives memory back, nothing else does

Check it with: tpsim lab puzzles check 4
"""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    raise NotImplementedError
