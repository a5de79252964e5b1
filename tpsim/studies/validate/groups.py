"""All comparisons, in groups that are judged together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tpsim.studies.validate import activations, arithmetic, iterations, nccl, operators, scaling
from tpsim.studies.validate.bounds import Bound, Errors, errors, exact, falls, ordering, points
from tpsim.studies.validate.comparison import Comparison


@dataclass(frozen=True)
class Group:
    """Comparisons that are judged together.

    Attributes
    ----------
    name : str
    compare : callable
        Returns the rows.
    bound : Bound or None
        What must hold; None where numbers are shown for what they are.
    """

    name: str
    compare: Callable[[], Iterable[Comparison]]
    bound: Bound | None = None

    def result(self) -> Result:
        """Compare, and judge."""
        rows = list(self.compare())
        return Result(self.name, rows, self.bound, self.bound is None or self.bound.holds(rows))


@dataclass(frozen=True)
class Result:
    """A group's rows, and whether its bound holds."""

    name: str
    rows: list[Comparison]
    bound: Bound | None
    holds: bool

    @property
    def errors(self) -> Errors:
        """Of all rows."""
        return Errors.of(self.rows)

    def parts(self) -> Iterator[tuple[str, list[Comparison]]]:
        """Yield the rows by table or figure, where the group has several."""
        parts: dict[str, list[Comparison]] = {}
        for row in self.rows:
            parts.setdefault(row.group, []).append(row)
        if len(parts) > 1:
            yield from parts.items()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; errors as shares of their number."""
        found = self.errors
        return {
            "group": self.name,
            "bound": self.bound.words if self.bound else None,
            "holds": self.holds,
            "mean": found.mean,
            "p90": found.p90,
            "worst": found.worst.error,
            "rows": [{**vars(row), "error": row.error} for row in self.rows],
        }


def groups() -> list[Group]:
    """Return every group, from what must be exact to what is only shown."""
    return [
        Group("table 2: activations of a layer", activations.table_2, exact()),
        Group("8bsh(t − 1)/t", arithmetic.traffic, exact()),
        Group("72bLsh²(1 + s/6h + V/12hL)", arithmetic.flops, exact()),
        Group("figure 1: activations", activations.figure_1, points(0.005, "GiB")),
        Group("figure 1: parameters, optimizer", activations.figure_1_state, errors(worst=0.02)),
        Group("figure 7: share of TP", activations.figure_7, points(0.15, "points")),
        Group("H200: operators", operators.h200, errors(mean=0.05, p90=0.15)),
        Group("table 5: time of an iteration", iterations.table_5, errors(mean=0.035, worst=0.08)),
        Group("2019: weak scaling", scaling.weak_scaling, falls()),
        Group("2021: ZeRO-3 against TP × PP", scaling.zero3, ordering()),
        Group("2024: Llama 3 405B", scaling.llama3),
        Group("NCCL: time of an all-reduce", nccl.times),
        Group("NCCL: bus bandwidth", nccl.bandwidths),
    ]
