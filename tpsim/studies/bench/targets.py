"""How fast tpsim means to be, as data, and whether it is: limits on ratios of what one run measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tpsim.studies.bench import blocks, collectives, training
from tpsim.studies.bench.result import Key, Row

Measure = Literal["ratio", "over bound", "share", "ms"]


@dataclass(frozen=True)
class Target:
    """What must hold.

    Attributes
    ----------
    number : int
        Targets of one kind share it.
    what : str
        In words.
    measure : {"ratio", "over bound", "share", "ms"}
        Of a row: its value over another row's, or over its own bound; the share of its bound; milliseconds.
    row : Key
    limit : float
    over : Key, optional
        The other row of a "ratio".
    at_least : bool
        Whether the limit is the least; otherwise it is the most.
    """

    number: int
    what: str
    measure: Measure
    row: Key
    limit: float
    over: Key | None = None
    at_least: bool = False

    def of(self, rows: dict[Key, Row]) -> float | None:
        """Return what was measured; None if a row is missing, or has no bound."""
        row = rows.get(self.row)
        if row is None:
            return None
        if self.measure == "ms":
            return 1e3 * row.value
        if self.measure == "ratio":
            other = rows.get(self.over) if self.over else None
            return None if other is None else row.value / other.value
        if row.bound is None:
            return None
        return row.value / row.bound if self.measure == "over bound" else row.bound / row.value


@dataclass(frozen=True)
class Finding:
    """A target, and what a run says to it.

    Attributes
    ----------
    target : Target
    measured : float or None
        None where it was not measured.
    """

    target: Target
    measured: float | None

    @property
    def holds(self) -> bool | None:
        """Whether it is met; None where it was not measured."""
        if self.measured is None:
            return None
        if self.target.at_least:
            return self.measured >= self.target.limit
        return self.measured <= self.target.limit

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {**asdict(self.target), "measured": self.measured, "holds": self.holds}


def findings(rows: Iterable[Row], targets: Sequence[Target] | None = None) -> list[Finding]:
    """Hold rows against targets, by default all of `TARGETS`."""
    of = {row.key: row for row in rows}
    return [Finding(target, target.of(of)) for target in (TARGETS if targets is None else targets)]


def _block(
    number: int, row: str, over: str, limits: dict[str, float], *, at_least: bool = False
) -> list[Target]:
    return [
        Target(
            number,
            f"block, {size}: {row} / {over}",
            "ratio",
            ("block", size, row),
            limit,
            ("block", size, over),
            at_least,
        )
        for size, limit in limits.items()
    ]


def _share(row: str, limits: dict[str, float]) -> list[Target]:
    return [
        Target(
            2,
            f"block, {size}: {row}, share of GEMM peak",
            "share",
            ("block", size, row),
            limit,
            at_least=True,
        )
        for size, limit in limits.items()
    ]


_LARGEST = collectives.what("all_reduce", collectives.LARGEST)
_RING, _MPI = (collectives.who(blocks.MPI_2, algorithm) for algorithm in ("ring", "mpi"))
_MEETING = collectives.who(collectives.LOCKSTEP_4, "ring")

TARGETS: tuple[Target, ...] = (
    *_block(1, blocks.MPI_2, blocks.TORCH_TP, {"small": 0.6, "big": 0.9}),
    *_block(1, blocks.MPI_2, blocks.TORCH_HAND, {"small": 0.85, "big": 1.0}),
    *_block(2, blocks.RANK, blocks.TORCH_1, {"small": 1.15, "big": 1.05}),
    *_share(blocks.RANK, {"small": 0.6, "big": 0.8}),
    *_block(3, blocks.FREE, blocks.MPI_2, {"small": 1.1, "big": 1.1}),
    *_block(3, blocks.LOCKSTEP, blocks.RANK, {"small": 1.25, "big": 1.25}),
    Target(
        4,
        f"step, {training.NUMPITRON}: {blocks.MPI_2}, ms",
        "ms",
        ("train", training.NUMPITRON, blocks.MPI_2),
        30.0,
    ),
    *_block(5, blocks.MPI_1, blocks.MPI_2, {"big": 1.8}, at_least=True),
    Target(
        6,
        f"{_LARGEST}: {_RING} / mpi",
        "ratio",
        ("collectives", _LARGEST, _RING),
        1.5,
        ("collectives", _LARGEST, _MPI),
    ),
    Target(
        6, f"{_LARGEST}: {_MEETING} / memory's bound", "over bound", ("collectives", _LARGEST, _MEETING), 2.0
    ),
    Target(
        7,
        f"memory of a step, {training.GPT_512}: held / counted",
        "over bound",
        ("memory", training.GPT_512, blocks.RANK),
        1.3,
    ),
)
"""Ratios of times, to hold on other machines too; but 4, which is of one where a core's products reach some
100 GFLOP/s in float32.
"""
