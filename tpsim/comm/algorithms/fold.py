"""Folding p ranks to a power of two, for algorithms that need one.

Of the first 2·rem ranks, rem = p − 2ᵏ, each even one gives its data to its odd neighbour and sits out; the
others take a seat each. At the end the even one is given its result. For p = 6::

    rank   0 → 1   2 → 3   4   5
    seat       0       1   2   3

References
----------
Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in MPICH",
International Journal of High Performance Computing Applications 19(1).
"""

from collections.abc import Sequence

import numpy as np

from tpsim.comm.algorithms.port import Array, Port, Steps, recv, send


class Fold:
    """Who sits where, and the two moves between neighbours.

    Attributes
    ----------
    seats : int
        The largest power of two that is at most the number of ranks.
    rem : int
        How many seats are shared by two ranks, and so how many ranks sit out.
    """

    def __init__(self, ranks: int) -> None:
        self.seats = 1 << (ranks.bit_length() - 1)
        self.rem = ranks - self.seats

    def shares(self, rank: int) -> bool:
        """Whether this rank and its neighbour share a seat."""
        return rank < 2 * self.rem

    def seat(self, rank: int) -> int | None:
        """Where ``rank`` sits; None if it sits out."""
        if not self.shares(rank):
            return rank - self.rem
        return rank // 2 if rank % 2 else None

    def rank(self, seat: int) -> int:
        """Who works at ``seat``."""
        return 2 * seat + 1 if seat < self.rem else seat + self.rem

    def distances(self) -> list[int]:
        """1, 2, 4, … below ``seats``: how far the partners are apart, ``seat`` and ``seat ^ distance``."""
        return [1 << i for i in range(self.seats.bit_length() - 1)]

    def edges(self, offsets: Sequence[int]) -> list[int]:
        """Offsets of the seats' blocks, from the ranks': a shared seat has the blocks of both."""
        return [offsets[seat + min(seat, self.rem)] for seat in range(self.seats + 1)]

    def hand_in(self, port: Port, buffer: Array) -> Steps:
        """Ranks that sit out send ``buffer``; their neighbours receive into theirs."""
        if self.shares(port.rank):
            even = port.rank % 2 == 0
            yield send(port, buffer, port.rank + 1) if even else recv(port, buffer, port.rank - 1)

    def hand_back(self, port: Port, buffer: Array) -> Steps:
        """`hand_in` the other way."""
        if self.shares(port.rank):
            even = port.rank % 2 == 0
            yield recv(port, buffer, port.rank + 1) if even else send(port, buffer, port.rank - 1)

    def reduce_in(self, port: Port, buffer: Array, op: np.ufunc) -> Steps:
        """`hand_in`, and add to what the neighbour has."""
        if self.shares(port.rank) and port.rank % 2:
            inbox = np.empty_like(buffer)
            yield from self.hand_in(port, inbox)
            op(inbox, buffer, out=buffer)
        else:
            yield from self.hand_in(port, buffer)

    def combine(self, values: Sequence[Array], op: np.ufunc) -> list[Array]:
        """Each seat's array after `reduce_in`, from each rank's before it."""
        both = 2 * self.rem
        shared = [op(even, odd) for even, odd in zip(values[:both:2], values[1:both:2], strict=True)]
        return [*shared, *values[both:]]
