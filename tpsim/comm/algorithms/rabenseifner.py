"""Rabenseifner's all-reduce: reduce-scatter by recursive halving, then all-gather by recursive doubling.

The bytes of the ring in the rounds of recursive doubling: first trade half of the buffer with the partner
farthest away, then a quarter, an eighth, …; then all the way back.

References
----------
Rabenseifner (2004), "Optimization of Collective Reduction Operations", International Conference on
Computational Science, LNCS 3036. Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective
Communication Operations in MPICH", International Journal of High Performance Computing Applications 19(1).
"""

import numpy as np

from tpsim.comm.algorithms import recursive_doubling, tree
from tpsim.comm.algorithms.chunks import bounds, split
from tpsim.comm.algorithms.fold import Fold
from tpsim.comm.algorithms.port import Array, Port, Steps

reduce_scatter = recursive_doubling.reduce_scatter
all_gather = recursive_doubling.all_gather


def all_reduce(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """Fold, halve, double, unfold.

    Cost: 2 lg p·α + 2n(p−1)/p·β + n(p−1)/p·γ; folding adds 2α + 2nβ + nγ.
    """
    fold = Fold(port.size)
    edges = bounds(buffer.size, fold.seats)
    yield from fold.reduce_in(port, buffer, op)
    yield from recursive_doubling.halve(port, fold, buffer, edges, op)
    yield from recursive_doubling.double(port, fold, buffer, edges)
    yield from fold.hand_back(port, buffer)


def broadcast(port: Port, buffer: Array, root: int) -> Steps:
    """Scatter down a binomial tree, then all-gather: the same idea for a broadcast, by van de Geijn.

    Cost: 2⌈lg p⌉·α + 2n(p−1)/p·β; folding adds to the all-gather.
    """
    p, offsets = port.size, bounds(buffer.size, port.size)
    chunks = split(buffer, offsets)
    yield from tree.scatter(port, buffer, offsets, root)
    yield from all_gather(port, [chunks[(rank - root) % p] for rank in range(p)])


combine = recursive_doubling.combine_halving
combine_scatter = recursive_doubling.combine_scatter
