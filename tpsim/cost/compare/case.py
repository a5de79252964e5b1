"""A measured row as work that a model can price, and rows of measured against modelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

W = TypeVar("W")


@dataclass(frozen=True)
class Case(Generic[W]):
    """One measurement.

    Parameters
    ----------
    group : str
        Rows that are judged together.
    what : str
        The row in words.
    work : Gemm, Attention, Pointwise, Collective
    measured_us : float
    graph : bool
        Whether it ran inside a CUDA graph.
    heat : float
        0 if the device was rested, 1 if it was held at its power limit.
    """

    group: str
    what: str
    work: W
    measured_us: float
    graph: bool = False
    heat: float = 0.0


@dataclass(frozen=True)
class Row:
    """A measured time and the modelled one, in microseconds."""

    group: str
    what: str
    measured_us: float
    modelled_us: float

    @property
    def error(self) -> float:
        """(modelled − measured) / measured."""
        return self.modelled_us / self.measured_us - 1


@dataclass(frozen=True)
class Summary:
    """Errors of a group of rows, as shares of the measured time."""

    group: str
    rows: int
    mean: float
    p90: float
    worst: Row


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Return the errors of each group, in the order in which groups come up."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    summaries = []
    for group, members in groups.items():
        errors = np.abs([row.error for row in members])
        p90 = float(np.percentile(errors, 90))
        worst = members[int(errors.argmax())]
        summaries.append(Summary(group, len(members), float(errors.mean()), p90, worst))
    return summaries
