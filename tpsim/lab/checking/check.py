"""Checking a submission: cases are drawn, run and judged, and what fails is shrunk to its smallest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from tpsim.lab.checking.case import Case, Draw, cases
from tpsim.lab.checking.exercise import Deal, Exercise, MissingError, Property
from tpsim.lab.checking.finding import Finding, WrongError
from tpsim.lab.checking.guard import load
from tpsim.lab.checking.run import LocalRunner, Ran, Runner
from tpsim.lab.checking.show import show
from tpsim.lab.checking.stop import Stop, stopped
from tpsim.lab.notes import nothing_left_behind

EXAMPLES = 60
"""Cases that are drawn, unless told otherwise."""


@dataclass(frozen=True)
class Verdict:
    """Whether one property holds.

    Attributes
    ----------
    name, says : str
        The property's.
    points : int
        What it is worth.
    finding : Finding or None
        The smallest case in which it does not hold.
    """

    name: str
    says: str
    points: int
    finding: Finding | None = None


@dataclass(frozen=True)
class Result:
    """What a check found: a verdict a property, how many cases were run, and how long it took."""

    exercise: Exercise
    verdicts: tuple[Verdict, ...]
    cases: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every property holds."""
        return all(verdict.finding is None for verdict in self.verdicts)

    @property
    def points(self) -> int:
        """What the properties that hold are worth."""
        return sum(verdict.points for verdict in self.verdicts if verdict.finding is None)

    @property
    def findings(self) -> list[Finding]:
        """What does not hold, the most telling first."""
        return [verdict.finding for verdict in self.verdicts if verdict.finding is not None]


def check_file(exercise: Exercise, path: Path, *, seed: int = 0, examples: int = EXAMPLES) -> Result:
    """Check a submission's file on virtual ranks of this process.

    Raises
    ------
    OSError
        If there is no such file.
    """
    began = time.perf_counter()
    try:
        functions = load(path, exercise.functions, exercise.allowed)
    except OSError:
        raise
    except Exception as error:  # whatever the submission's own code raises
        finding = _of_stop(stopped(error, str(path)), "before any case")
        verdicts = tuple(Verdict(one.name, one.says, one.points, finding) for one in exercise.properties)
        return Result(exercise, verdicts, 0, time.perf_counter() - began)
    return check(exercise, LocalRunner(functions, str(path)), seed=seed, examples=examples)


def check(exercise: Exercise, runner: Runner, *, seed: int = 0, examples: int = EXAMPLES) -> Result:
    """Check a submission with whatever runs it.

    Parameters
    ----------
    exercise : Exercise
    runner : Runner
        Runs the submission's functions on ranks: `LocalRunner` in this process, a grader's in another.
    seed : int
        The same seed draws the same cases.
    examples : int
        How many, before a failing one is shrunk.

    Returns
    -------
    Result
        With a verdict for every property: those that hold are worth their points.
    """
    began = time.perf_counter()
    judged = _Judged(exercise, runner)
    with nothing_left_behind():
        _draw(exercise, seed, examples, judged.judge_all)
        findings = [_smallest(judged, one, seed, examples) for one in exercise.properties]
    verdicts = tuple(
        Verdict(one.name, one.says, one.points, finding)
        for one, finding in zip(exercise.properties, findings, strict=True)
    )
    return Result(exercise, verdicts, len(judged.runs), time.perf_counter() - began)


def _draw(exercise: Exercise, seed: int, examples: int, act: Callable[[Case], None]) -> None:
    """Call `act` on drawn cases, the same for the same seed; if it raises, on ever smaller ones that do."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(cases(exercise.ranks, exercise.dtypes, exercise.sizes))
    def on_case(case: Case) -> None:
        act(case)

    on_case()


def _smallest(judged: _Judged, one: Property, seed: int, examples: int) -> Finding | None:
    """Return the smallest case that a property fails in, the way it fails in most; None if it holds."""
    kind = judged.likeliest(one)
    if kind is None:
        return None
    smallest = next(case for case in judged.runs if kind in judged.kinds(one, case))

    def holds(case: Case) -> None:
        nonlocal smallest
        if kind in judged.kinds(one, case):
            smallest = case  # the last to fail is the smallest
            raise _BrokenError

    with suppress(_BrokenError):
        _draw(judged.exercise, seed, examples, holds)
    return judged.finding(one, smallest, kind)


class _BrokenError(Exception):
    """A property does not hold of a case."""


class _Judged:
    """All cases that were run, so that none is run twice, and what was said of them."""

    def __init__(self, exercise: Exercise, runner: Runner) -> None:
        self.exercise = exercise
        self.runner = runner
        self.runs: dict[Case, tuple[Deal, Ran]] = {}
        self.failures: dict[tuple[str, Case], WrongError | Stop | None] = {}

    def judge_all(self, case: Case) -> None:
        """Run a case, and judge all properties."""
        for one in self.exercise.properties:
            self.kinds(one, case)

    def kinds(self, one: Property, case: Case) -> list[str]:
        """Return the mistakes that would explain how a property fails in a case; none if it holds."""
        if case not in self.runs:
            deal = self.exercise.deal(case, Draw(case))
            self.runs[case] = deal, self.runner(self.exercise.calls, dealt(deal, case))
        if (one.name, case) not in self.failures:
            self.failures[one.name, case] = self._judge(one, case, *self.runs[case])
        failure = self.failures[one.name, case]
        if failure is None:
            return []
        return [failure.kind] if isinstance(failure, Stop) else list(failure.kinds)

    def likeliest(self, one: Property) -> str | None:
        """Return the mistake that explains most of the cases in which a property fails."""
        votes = Counter(kind for case in self.runs for kind in self.kinds(one, case))
        return max(votes, key=lambda kind: votes[kind], default=None)  # the first, of several

    def _judge(self, one: Property, case: Case, deal: Deal, ran: Ran) -> WrongError | Stop | None:
        functions = set(self.exercise.functions)
        if ran.stop is not None and all(functions <= rank.ended for rank in ran.ranks):
            return ran.stop  # what stops a run after its last call concerns all of it
        try:
            one.judge(case, deal, ran)
        except WrongError as wrong:
            return wrong
        except MissingError:
            return ran.stop or WrongError(f"{one.name}: never seen", {"nothing returned": ""})
        return None

    def finding(self, one: Property, case: Case, kind: str) -> Finding:
        """Put a failing case into words."""
        failure = self.failures[one.name, case]
        deal, ran = self.runs[case]
        if isinstance(failure, Stop):
            return _of_stop(failure, str(case), ran.printed)
        assert failure is not None
        lines = tuple(show(one, case, deal, ran))
        return Finding(kind, str(case), failure.what, failure.kinds[kind], "", lines, ran.printed)


def dealt(deal: Deal, case: Case) -> list[dict[str, Any]]:
    """Return what each rank is given: one dict a rank, floating-point arrays in the case's dtype."""

    def given_to(rank: int, value: Any) -> Any:
        part = value.on(rank, case.t)
        floating = isinstance(part, np.ndarray) and np.issubdtype(part.dtype, np.floating)
        return part.astype(case.dtype) if floating else part

    return [{name: given_to(rank, value) for name, value in deal.given.items()} for rank in range(case.t)]


def _of_stop(stop: Stop, case: str, printed: str = "") -> Finding:
    return Finding(stop.kind, case, stop.what, stop.why, stop.line, (), printed)
