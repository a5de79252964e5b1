"""6 · Hide the all-gather: the collective matmul

Y = X A on four devices of an H100 node: X [4096, 4096] lies cut by rows, A [4096, 16384] is yours to place,
but no device can hold all of it. An all-gather of X and then one product take too long: nothing is
computed while X is on its way. But rows of Y need only the same rows of X.

Target: 112 MiB on each device and 0.20 ms, with the prices of the h100 profile.
At the end, the devices together must hold Y.

    d.rank, d.size                          this device, and how many there are
    d.load("A", cols=(d.rank, d.size))      place a share of A; rows=(0, 2) is the upper half; all loads first
    d.matmul(x, a), d.gelu(h)               new blocks; a.T is a transposed
    d.begin_all_reduce(p)                   the sum over devices, in the place of p; goes on beside compute
    d.wait(pending)                         returns its block; work from here on starts when it has ended
    d.drop(h, x)                            gives memory back, nothing else does
    d.begin_all_gather(x, axis=0)           the devices' rows (1: columns) one after another: a new block
    d.begin_shift(x)                        x to the next device; gives the previous one's: a new block

Check it with: tpsim lab puzzles check 6
"""

from tpsim.lab.puzzles import Device


def schedule(d: Device) -> None:
    """Note this device's steps."""
    raise NotImplementedError
