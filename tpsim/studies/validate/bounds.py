"""How close to the published numbers ours must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tpsim.studies.validate.comparison import Comparison

Rows = Sequence[Comparison]


@dataclass(frozen=True)
class Bound:
    """What must hold for the rows of a group, in words and as a function of them."""

    words: str
    holds: Callable[[Rows], bool]


@dataclass(frozen=True)
class Errors:
    """Relative errors of some rows, without their signs."""

    mean: float
    p90: float
    worst: Comparison

    @classmethod
    def of(cls, rows: Iterable[Comparison]) -> Errors:
        """Return those of at least one row; 90 % of the rows err no more than `p90`."""
        rows = sorted(rows, key=lambda row: abs(row.error))
        sizes = [abs(row.error) for row in rows]
        return cls(sum(sizes) / len(sizes), sizes[math.ceil(0.9 * len(sizes)) - 1], rows[-1])


def exact() -> Bound:
    """All are the same number."""
    return Bound("exact", lambda rows: all(math.isclose(row.ours, row.theirs, rel_tol=1e-12) for row in rows))


def points(size: float, unit: str) -> Bound:
    """None is further off than `size`, in the rows' own unit."""

    def holds(rows: Rows) -> bool:
        return all(abs(row.ours - row.theirs) <= size * (1 + 1e-9) for row in rows)

    return Bound(f"within {size:g} {unit}", holds)


def errors(mean: float | None = None, p90: float | None = None, worst: float | None = None) -> Bound:
    """Relative errors are no larger than these."""
    limits = {name: limit for name, limit in (("mean", mean), ("p90", p90), ("worst", worst)) if limit}

    def holds(rows: Rows) -> bool:
        found = Errors.of(rows)
        sizes = {"mean": found.mean, "p90": found.p90, "worst": abs(found.worst.error)}
        return all(sizes[name] <= limit for name, limit in limits.items())

    words = ", ".join(f"{name} {100 * limit:g}" for name, limit in limits.items())
    return Bound(f"{words} %", holds)


def falls() -> Bound:
    """Each row of ours is below the one before, as each of theirs is."""
    return Bound("falls", lambda rows: all(a.ours > b.ours for a, b in pairwise(rows) if a.theirs > b.theirs))


def ordering() -> Bound:
    """Of every two rows, which belong together, the larger one is theirs' larger one."""

    def holds(rows: Rows) -> bool:
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return all((a.ours < b.ours) == (a.theirs < b.theirs) for a, b in pairs)

    return Bound("the same order", holds)
