"""Collective algorithms, written by hand on send and receive alone, one a file; and their registry.

Each has its messages (``all_reduce``, …), its fused twin that gives the same bits at once (``combine``, …),
and a closed form of what each rank sends (`closed_form.sent`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from tpsim.comm.algorithms import rabenseifner, rank_order, recursive_doubling, ring, tree
from tpsim.comm.algorithms.port import Array, Port, Request, Steps

__all__ = ["ALGORITHMS", "Algorithm", "Array", "Port", "Request", "Steps", "get"]


@dataclass(frozen=True)
class Algorithm:
    """One way to carry out the collectives on p ranks, any p ≥ 1 and any lengths.

    Costs in the functions' docstrings: α a message, β a byte sent, γ a byte reduced, n bytes of the full
    tensor. ``op`` is a binary ufunc: ``np.add``, ``np.maximum``, ``np.minimum``, ``np.multiply``.

    Attributes
    ----------
    name : str
        Its key in `ALGORITHMS`.
    all_reduce : callable
        ``(port, buffer, op)``: reduce the contiguous 1-D ``buffer`` in place, on every rank.
    reduce_scatter : callable
        ``(port, blocks, op)``: leave the reduced block r in rank r's ``blocks[r]``; its other blocks are
        undefined afterwards. ``blocks`` are p contiguous 1-D arrays; block i has one length on all ranks.
    all_gather : callable
        ``(port, blocks)``: ``blocks[rank]`` is filled; fill the others.
    broadcast : callable
        ``(port, buffer, root)``: fill ``buffer`` with the root's.
    combine : callable
        ``(values, op)``: a new array with the bits that ``all_reduce`` leaves, given all ranks' buffers.
    combine_scatter : callable
        ``(values, offsets, op)``: each rank's block, in the bits that ``reduce_scatter`` leaves, as views of
        one new array. ``values`` are the ranks' buffers; ``offsets`` cut them into blocks (`chunks.bounds`).
    """

    name: str
    all_reduce: Callable[[Port, Array, np.ufunc], Steps]
    reduce_scatter: Callable[[Port, Sequence[Array], np.ufunc], Steps]
    all_gather: Callable[[Port, Sequence[Array]], Steps]
    broadcast: Callable[[Port, Array, int], Steps]
    combine: Callable[[Sequence[Array], np.ufunc], Array]
    combine_scatter: Callable[[Sequence[Array], Sequence[int], np.ufunc], list[Array]]


def _algorithm(module: ModuleType) -> Algorithm:
    name = module.__name__.rpartition(".")[2]
    return Algorithm(
        name,
        module.all_reduce,
        module.reduce_scatter,
        module.all_gather,
        module.broadcast,
        module.combine,
        module.combine_scatter,
    )


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in map(_algorithm, [ring, recursive_doubling, rabenseifner, tree, rank_order])
}


def get(name: str) -> Algorithm:
    """Return the algorithm called ``name``.

    Raises
    ------
    ValueError
        If no algorithm written here has that name.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    why = "that one is the MPI library's own" if name == "mpi" else "there is none of that name"
    raise ValueError(
        f"algorithm {name!r}: {why}, not one of tpsim's hand-written algorithms; "
        f"pick one of {', '.join(map(repr, ALGORITHMS))} ('mpi' is for the library's choice, where MPI runs)"
    )
