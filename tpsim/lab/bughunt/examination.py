"""A patient examined: one problem on 1, 2 and 4 ranks, beside the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tpsim.lab.bughunt.patient import RANKS, Patient
from tpsim.lab.checking import (
    Array,
    Case,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    LocalRunner,
    Ran,
    Stop,
    Sum,
    stopped,
)
from tpsim.lab.checking.check import dealt
from tpsim.lab.checking.guard import load
from tpsim.trace import CollectiveEvent


@dataclass(frozen=True)
class Value:
    """One result of all ranks, beside what it must be.

    Attributes
    ----------
    name : str
    got, must : sequence of array
        One a rank.
    alike : bool
        Whether all ranks must have the same.
    """

    name: str
    got: Sequence[Any]
    must: Sequence[Array]
    alike: bool

    @property
    def wrong(self) -> list[int]:
        """The ranks that have something else."""
        pairs = enumerate(zip(self.got, self.must, strict=True))
        return [rank for rank, (got, must) in pairs if not same(got, must)]

    @property
    def fits(self) -> bool:
        """Whether every rank has an array of numbers, of the right shape."""
        return all(
            is_array(got) and got.shape == must.shape for got, must in zip(self.got, self.must, strict=True)
        )

    def off(self, rank: int) -> Array:
        """Return by how much a rank's is off."""
        difference: Array = np.asarray(self.got[rank]) - self.must[rank]
        return difference


@dataclass(frozen=True)
class Seen:
    """What was seen on t ranks.

    Attributes
    ----------
    t : int
    values : list of Value
        Those that every rank has returned.
    events : dict of str to list of list of CollectiveEvent
        By function: each rank's collectives.
    stop : Stop or None
        Why the run did not come to its end.
    printed : str
        What the file printed.
    """

    t: int
    values: list[Value]
    events: dict[str, list[list[CollectiveEvent]]]
    stop: Stop | None = None
    printed: str = ""

    def value(self, name: str) -> Value | None:
        """Return a value by name, if every rank has returned it."""
        return next((value for value in self.values if value.name == name), None)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return self.stop is None and not any(value.wrong for value in self.values)


@dataclass(frozen=True)
class Examination:
    """What was seen on 1, 2 and 4 ranks."""

    runs: list[Seen] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return all(seen.right for seen in self.runs)

    def worst(self) -> Value | None:
        """Return the first wrong value, of the fewest ranks that show one."""
        wrong = (value for seen in self.runs for value in seen.values if value.wrong)
        several = (value for seen in self.runs[1:] for value in seen.values if value.wrong)
        return next(several, None) or next(wrong, None)


def examine(patient: Patient, path: Path) -> Examination:
    """Run a file on the patient's problem, on 1, 2 and 4 virtual ranks.

    Parameters
    ----------
    patient : Patient
    path : Path
        The student's file, sick or mended.

    Raises
    ------
    OSError
        If there is no such file.
    """
    exercise = patient.exercise
    try:
        functions = load(path, exercise.functions, exercise.allowed)
    except OSError:
        raise
    except Exception as error:  # whatever the file's own code raises
        return Examination([Seen(RANKS[0], [], {}, stopped(error, str(path)))])
    runner, problem = LocalRunner(functions, str(path)), patient.case(max(RANKS))
    runs = []
    for ranks in RANKS:
        case = patient.case(ranks)
        deal = exercise.deal(case, Draw(problem))  # the same numbers at every t
        runs.append(_seen(patient, case, deal, runner(exercise.calls, dealt(deal, case))))
    return Examination(runs)


def _seen(patient: Patient, case: Case, deal: Deal, ran: Ran) -> Seen:
    names = [one.value for one in patient.exercise.properties if isinstance(one, Equals)]
    values = []
    for name in names:
        placed = deal.wanted[name]
        if any(name not in rank.values for rank in ran.ranks):
            continue
        must = [np.asarray(placed.on(rank, case.t)) for rank in range(case.t)]
        alike = not isinstance(placed, Cut | Each) and not (
            isinstance(placed, Sum) and placed.axis is not None
        )
        values.append(Value(name, [rank.values[name] for rank in ran.ranks], must, alike))
    events = {
        function: [rank.events.get(function, []) for rank in ran.ranks]
        for function in dict.fromkeys(name for rank in ran.ranks for name in rank.events)
    }
    return Seen(case.t, values, events, ran.stop, ran.printed)


def is_array(got: Any) -> bool:
    """Whether this is an array of numbers."""
    return isinstance(got, np.ndarray | np.generic) and np.issubdtype(got.dtype, np.number)


def same(got: Any, must: Array) -> bool:
    """Whether the first is an array that equals the second but for rounding."""
    return is_array(got) and got.shape == must.shape and bool(np.allclose(got, must, rtol=1e-9, atol=1e-9))
