"""What was measured, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tpsim.studies.bench.rounds import Timing

Unit = Literal["s", "B"]
Key = tuple[str, str, str]
"""A row's section, what and who."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    section, what, who : str
        Its place: "block", "small", "mpiexec -n 2".
    value : float
        A median of seconds; in the section "memory", bytes.
    unit : {"s", "B"}
    low, high : float
        Quartiles.
    samples : int
    work : float
        FLOPs that were computed, or bytes that had to be moved.
    work_unit : {"FLOP", "B"}
    bound : float or None
        What the value could be: the seconds that the work takes at the measured speed of this machine's
        products, or copies, on as many cores; in the section "memory", the bytes that the trace counts.
    """

    section: str
    what: str
    who: str
    value: float
    unit: Unit = "s"
    low: float = 0.0
    high: float = 0.0
    samples: int = 1
    work: float = 0.0
    work_unit: Literal["FLOP", "B"] = "FLOP"
    bound: float | None = None

    @property
    def key(self) -> Key:
        """Where it stands."""
        return self.section, self.what, self.who

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.work / self.value

    @property
    def share(self) -> float | None:
        """How near it comes to its bound: 1 is there."""
        return None if self.bound is None else self.bound / self.value

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {**asdict(self), "share": self.share} | ({"rate": self.rate} if self.unit == "s" else {})


def timed(
    section: str,
    what: str,
    who: str,
    timing: Timing,
    work: float,
    *,
    work_unit: Literal["FLOP", "B"] = "FLOP",
    speed: float | None = None,
) -> Row:
    """Return the row of a timing; `speed` is the work a second that is possible."""
    low, high = timing.quartiles
    return Row(
        section,
        what,
        who,
        timing.median,
        low=low,
        high=high,
        samples=len(timing.seconds),
        work=work,
        work_unit=work_unit,
        bound=work / speed if speed else None,
    )


@dataclass(frozen=True)
class Section:
    """What one part of the run found.

    Attributes
    ----------
    name : str
    rows : sequence of Row
    others : float or None
        The share of the cores that others used while it was measured.
    notes : sequence of str
        What a reader should know, a sentence each.
    """

    name: str
    rows: Sequence[Row]
    others: float | None = None
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "name": self.name,
            "others": self.others,
            "notes": list(self.notes),
            "rows": [row.to_dict() for row in self.rows],
        }


def worst(shares: Sequence[float | None]) -> float | None:
    """Return the largest share that is known, or None."""
    return max((share for share in shares if share is not None), default=None)
