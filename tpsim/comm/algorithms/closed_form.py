"""What one rank sends in a collective, from formulas: the oracle for every count in a trace.

Nothing here runs an algorithm, nor uses its code; only the cut into chunks is the same. Elements sent by
rank r of p, with N elements in the full tensor and c(i) in its chunk i (mod p):

===================  ========================  ==========================  =============================
algorithm            all-reduce                reduce-scatter              all-gather
===================  ========================  ==========================  =============================
ring                 2N − c(r+1) − c(r+2)      N − c(r)                    N − c(r+1)
recursive doubling   N lg p                    N − c(r)                    its 1, 2, 4, … aligned chunks
Rabenseifner         N − c(r) + 1, 2, 4, …     N − c(r)                    its 1, 2, 4, … aligned chunks
tree                 N + N·children            N + its branch's − c(r)     its branch's + N·children
rank order           N; rank 0: N(p−1)         N; rank 0: N − c(0)         c(r); rank 0: N(p−1)
===================  ========================  ==========================  =============================

In the tree, rank 0 has no first term. Folding to a power of two, p = 2ᵏ + rem: of the first 2·rem ranks the
even ones send what they have to their neighbours, and nothing else; the odd ones send them a result besides.
A message without elements is never sent, so it does not count.

References
----------
Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of workstations",
Journal of Parallel and Distributed Computing 69(2), for the ring.
Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in MPICH",
International Journal of High Performance Computing Applications 19(1), for the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

from tpsim.comm.algorithms.chunks import bounds


@dataclass(frozen=True, slots=True)
class Sent:
    """What a rank sends.

    Attributes
    ----------
    messages, elements : int
        Messages of at least one element, and the elements in all of them together.
    """

    messages: int
    elements: int

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(self.messages + other.messages, self.elements + other.elements)

    def __sub__(self, other: "Sent") -> "Sent":
        return Sent(self.messages - other.messages, self.elements - other.elements)


@lru_cache(maxsize=1 << 16)
def sent(operation: str, algorithm: str, rank: int, size: int, count: int, root: int = 0) -> Sent:
    """Messages and elements that ``rank`` sends.

    Parameters
    ----------
    operation : str
        "all_reduce", "reduce_scatter", "all_gather", "broadcast" or "all_to_all".
    algorithm : str
        A name in `tpsim.comm.algorithms.ALGORITHMS`; for "all_to_all" it is "pairwise". "mpi" gets the
        figures of the ring (of "pairwise"): nominal ones, since what an MPI library sends is its own affair.
        NCCL's bus bandwidth is nominal in the same way.
    rank, size : int
        This rank, of how many.
    count : int
        Elements of the full tensor, cut into blocks by `chunks.bounds`; in "all_to_all", of a rank's whole
        outgoing buffer, its own block included.
    root : int
        Of a broadcast.

    Returns
    -------
    Sent

    Raises
    ------
    ValueError
        If there is no formula for this operation and algorithm.
    """
    known = _FORMULAS.get(operation, {})
    if algorithm not in known:
        raise ValueError(
            f"sent({operation!r}, {algorithm!r}): there is no formula for this pair; pick "
            + "; ".join(f"{name!r} with one of {', '.join(map(repr, of))}" for name, of in _FORMULAS.items())
        )
    return known[algorithm](rank, size, count, root)


def _send(length: int, times: int = 1) -> Sent:
    """``times`` messages of this length."""
    return Sent(times if length else 0, times * length)


def _chunk(i: int, p: int, n: int) -> Sent:
    """Chunk i, mod p."""
    return _send(n // p + (i % p < n % p))


def _chunks(p: int, n: int) -> Sent:
    """Each chunk once. The first min(p, n) have elements."""
    return Sent(min(p, n), n)


# Ring: once around, a rank sends all chunks but one.


def _ring_all_reduce(r: int, p: int, n: int, root: int) -> Sent:
    return _ring_reduce_scatter(r + 1, p, n, root) + _ring_all_gather(r + 1, p, n, root)


def _ring_reduce_scatter(r: int, p: int, n: int, root: int) -> Sent:
    return _chunks(p, n) - _chunk(r, p, n)  # keeps its own


def _ring_all_gather(r: int, p: int, n: int, root: int) -> Sent:
    return _chunks(p, n) - _chunk(r + 1, p, n)  # its right neighbour's own comes last, and stays


def _ring_broadcast(r: int, p: int, n: int, root: int) -> Sent:
    last = (r + 1 - root) % p == 0
    return _send(0) if last else _chunks(p, n)


# Recursive doubling and halving: p = 2ᵏ + rem ranks, folded to 2ᵏ seats. ``ends``: offsets of seats' blocks.


def _fold(r: int, p: int) -> tuple[int, int, bool, bool]:
    """k; the seat of r; whether r sits out, and whether it works for a neighbour that does."""
    k = p.bit_length() - 1
    rem = p - 2**k
    return k, max(r // 2, r - rem), r < 2 * rem and r % 2 == 0, r < 2 * rem and r % 2 == 1


def _halving(r: int, p: int, n: int, ends: Sequence[int]) -> Sent:
    """Everything goes but the seat's own block: first half of it, then a quarter, …"""
    k, seat, *_ = _fold(r, p)
    given = ((seat ^ 1 << i) >> i << i for i in range(k))  # the first of 2ⁱ seats on the partner's side
    return Sent(sum(ends[first] < n for first in given), n - (ends[seat + 1] - ends[seat]))


def _doubling(r: int, p: int, ends: Sequence[int]) -> Sent:
    """The seat's block, then the two aligned with it, four, …"""
    k, seat, *_ = _fold(r, p)
    firsts = (seat >> i << i for i in range(k))
    return sum((_send(ends[first + 2**i] - ends[first]) for i, first in enumerate(firsts)), start=_send(0))


@lru_cache(maxsize=1024)
def _seat_ends(p: int, n: int, root: int) -> tuple[int, ...]:
    """The first rem seats have the blocks of two ranks each; rank ``root`` has chunk 0."""
    rem = p - 2 ** (p.bit_length() - 1)
    offsets = list(accumulate((_chunk(r - root, p, n).elements for r in range(p)), initial=0))
    return (*offsets[: 2 * rem : 2], *offsets[2 * rem :])


def _doubling_all_reduce(r: int, p: int, n: int, root: int) -> Sent:
    k, _, sits_out, works_for_two = _fold(r, p)
    return _send(n) if sits_out else _send(n, k + works_for_two)


def _doubling_reduce_scatter(r: int, p: int, n: int, root: int) -> Sent:
    _, _, sits_out, works_for_two = _fold(r, p)
    if sits_out:
        return _send(n)
    halving = _halving(r, p, n, _seat_ends(p, n, 0))
    return halving + _chunk(r - 1, p, n) if works_for_two else halving


def _doubling_all_gather(r: int, p: int, n: int, root: int) -> Sent:
    return _gather_rotated(r, p, n, 0)


def _gather_rotated(r: int, p: int, n: int, root: int) -> Sent:
    """All-gather, where rank ``root`` has chunk 0."""
    _, _, sits_out, works_for_two = _fold(r, p)
    if sits_out:
        return _chunk(r - root, p, n)
    return _doubling(r, p, _seat_ends(p, n, root)) + _send(n, works_for_two)


def _rabenseifner_all_reduce(r: int, p: int, n: int, root: int) -> Sent:
    k, _, sits_out, works_for_two = _fold(r, p)
    if sits_out:
        return _send(n)
    ends = bounds(n, 2**k)
    return _halving(r, p, n, ends) + _doubling(r, p, ends) + _send(n, works_for_two)


def _rabenseifner_broadcast(r: int, p: int, n: int, root: int) -> Sent:
    return _scatter((r - root) % p, p, n) + _gather_rotated(r, p, n, root)


# Binomial tree: below place r (its lowest set bit counts them) hang r+1, r+2, r+4, ….


def _below(r: int, p: int) -> int:
    """How many places are on the branch of r, itself included."""
    return min(r & -r or p, p - r)


def _children(r: int, p: int) -> int:
    """⌈lg⌉ of the branch; none if r is not there at all."""
    return (_below(r, p) - 1).bit_length() if r < p else 0


def _scatter(r: int, p: int, n: int) -> Sent:
    """The branch's chunks but its own; only places below n have one with elements."""
    offsets = bounds(n, p)
    return Sent(_children(r, min(p, n)), offsets[r + _below(r, p)] - offsets[r + 1])


def _tree_all_reduce(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n, r > 0) + _tree_broadcast(r, p, n, 0)


def _tree_reduce_scatter(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n, r > 0) + _scatter(r, p, n)


def _tree_all_gather(r: int, p: int, n: int, root: int) -> Sent:
    branch = bounds(n, p)[r + _below(r, p)] - bounds(n, p)[r]
    return _send(branch, r > 0) + _tree_broadcast(r, p, n, 0)


def _tree_broadcast(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n, _children((r - root) % p, p))


# Star: all to rank 0, and rank 0 to all.


def _star_all_reduce(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n) if r else _send(n, p - 1)


def _star_reduce_scatter(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n) if r else _chunks(p, n) - _chunk(0, p, n)


def _star_all_gather(r: int, p: int, n: int, root: int) -> Sent:
    return _chunk(r, p, n) if r else _send(n, p - 1)


def _star_broadcast(r: int, p: int, n: int, root: int) -> Sent:
    return _send(n, p - 1) if r == root else _send(0)


def _pairwise(r: int, p: int, n: int, root: int) -> Sent:
    return _chunks(p, n) - _chunk(r, p, n)


_Formula: TypeAlias = Callable[[int, int, int, int], Sent]

_FORMULAS: dict[str, dict[str, _Formula]] = {
    "all_reduce": {
        "ring": _ring_all_reduce,
        "recursive_doubling": _doubling_all_reduce,
        "rabenseifner": _rabenseifner_all_reduce,
        "tree": _tree_all_reduce,
        "rank_order": _star_all_reduce,
        "mpi": _ring_all_reduce,
    },
    "reduce_scatter": {
        "ring": _ring_reduce_scatter,
        "recursive_doubling": _doubling_reduce_scatter,
        "rabenseifner": _doubling_reduce_scatter,
        "tree": _tree_reduce_scatter,
        "rank_order": _star_reduce_scatter,
        "mpi": _ring_reduce_scatter,
    },
    "all_gather": {
        "ring": _ring_all_gather,
        "recursive_doubling": _doubling_all_gather,
        "rabenseifner": _doubling_all_gather,
        "tree": _tree_all_gather,
        "rank_order": _star_all_gather,
        "mpi": _ring_all_gather,
    },
    "broadcast": {
        "ring": _ring_broadcast,
        "recursive_doubling": _tree_broadcast,
        "rabenseifner": _rabenseifner_broadcast,
        "tree": _tree_broadcast,
        "rank_order": _star_broadcast,
        "mpi": _ring_broadcast,
    },
    "all_to_all": {"pairwise": _pairwise, "mpi": _pairwise},
}
