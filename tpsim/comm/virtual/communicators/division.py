"""Who goes with whom when a communicator is split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

Choice = tuple[int, int, int]
"""(side, color, key) of one rank; a negative color stays out"""


class Part(NamedTuple):
    """What a rank is told of its part."""

    key: Any
    """What names the part, the same on all its ranks."""
    groups: tuple[tuple[int, ...], ...]
    """World ranks in their new order: one group, or one of each side."""
    rank: int
    """This rank's number in its group."""


def divide(seated: Sequence[int], choices: Sequence[Choice], key: tuple[Any, ...]) -> list[Part | None]:
    """Put ranks of the same color together, ordered by key, then by seat.

    Parameters
    ----------
    seated : sequence of int
        World ranks, by seat.
    choices : sequence of (side, color, key)
        By seat.
    key : tuple
        What names the split, the same on all ranks.

    Returns
    -------
    list of Part or None
        By seat; None for a rank that stays out, or whose color one of the sides lacks.
    """
    sides = 1 + max(side for side, _, _ in choices)
    seats: defaultdict[int, list[list[int]]] = defaultdict(lambda: [[] for _ in range(sides)])
    for seat in sorted(range(len(choices)), key=lambda seat: choices[seat][2]):
        side, color, _ = choices[seat]
        if color >= 0:
            seats[color][side].append(seat)
    parts: list[Part | None] = [None] * len(choices)
    for color, groups in seats.items():
        if all(groups):
            members = tuple(tuple(seated[seat] for seat in group) for group in groups)
            for group in groups:
                for rank, seat in enumerate(group):
                    parts[seat] = Part((*key, color), members, rank)
    return parts
