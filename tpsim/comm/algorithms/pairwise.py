"""Pairwise all-to-all: in step s everyone sends s ranks to the right and receives from s ranks to the left.

Each step is a permutation of the ranks, so no two messages meet at one receiver. With p = 3::

    step 1   0 → 1   1 → 2   2 → 0
    step 2   0 → 2   1 → 0   2 → 1

References
----------
Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in MPICH",
International Journal of High Performance Computing Applications 19(1).
"""

from collections.abc import Sequence

from tpsim.comm.algorithms.port import Array, Port, Steps, recv, send


def all_to_all(port: Port, outgoing: Sequence[Array], incoming: Sequence[Array]) -> Steps:
    """Fill ``incoming[i]`` with what rank i has in ``outgoing[rank]``.

    Cost: (p−1)α + n(p−1)/p·β.

    Parameters
    ----------
    outgoing, incoming : sequence of p arrays
        One block a rank, contiguous, and sharing no memory; a rank's own block is copied.
    """
    incoming[port.rank][...] = outgoing[port.rank]
    for step in range(1, port.size):
        left, right = (port.rank - step) % port.size, (port.rank + step) % port.size
        yield recv(port, incoming[left], left) + send(port, outgoing[right], right)
