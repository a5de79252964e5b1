"""Which rank holds what: whole values and how they lie on t ranks.

An exercise says with these what each rank is given and what it must return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Placed(Protocol):
    """A value on t ranks."""

    def on(self, rank: int, ranks: int) -> Any:
        """Return what one rank holds."""


@dataclass(frozen=True, eq=False)
class Same:
    """Every rank holds the same thing, whole."""

    value: Any

    def on(self, rank: int, ranks: int) -> Any:
        """Return it."""
        return self.value


@dataclass(frozen=True, eq=False)
class Cut:
    """Each rank holds its part of an array that is cut evenly along an axis, in rank order."""

    value: Array
    axis: int

    def on(self, rank: int, ranks: int) -> Array:
        """Return a rank's part."""
        return np.split(self.value, ranks, self.axis)[rank]


@dataclass(frozen=True, eq=False)
class Each:
    """Each rank holds a thing of its own: one a rank."""

    values: Sequence[Any]

    def on(self, rank: int, ranks: int) -> Any:
        """Return a rank's."""
        return self.values[rank]


@dataclass(frozen=True, eq=False)
class Sum:
    """Every rank must hold the sum of the ranks' terms: what an all-reduce gives.

    Written so, a missing sum, an average, and a sum that is taken twice are told apart.

    Parameters
    ----------
    terms : sequence of array
        One a rank.
    plus : array, optional
        Added once, after the sum.
    axis : int, optional
        Where each rank must hold only its part of the sum, cut along this axis: what a reduce-scatter gives.
    """

    terms: Sequence[Array]
    plus: Any = 0.0
    axis: int | None = None

    @property
    def total(self) -> Array:
        """The sum of the terms alone, whole."""
        whole: Array = reduce(np.add, self.terms)
        return whole

    def finish(self, total: Array) -> Placed:
        """Return `total` with what is added once, placed as the sum is."""
        whole = total + self.plus
        return Same(whole) if self.axis is None else Cut(whole, self.axis)

    def on(self, rank: int, ranks: int) -> Array:
        """Return the sum, or a rank's part of it."""
        part: Array = self.finish(self.total).on(rank, ranks)
        return part


def split(whole: Array, ranks: int, axis: int) -> list[Array]:
    """Return the parts of an array that is cut evenly along an axis, one a rank."""
    return np.split(whole, ranks, axis)
