"""Taking turns: every contender a few steps, round after round, so that a busy moment is one for all.

As pyperf and asv do it: processes of their own, interleaved, warmed up, and medians of what they took.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpsim.studies.bench.crew import Crew
from tpsim.studies.bench.machine import Others

_PAUSE = 0.02  # seconds in which a contender's threads fall asleep
_MOST = 1000  # repetitions of a task in a step
_LONG = 0.1  # seconds, in which it matters little what the caches held at the beginning
Say = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """Something that is timed.

    Attributes
    ----------
    what, who : str
        What tells it from other entries: its row's.
    contender : str
        Whose ranks run it.
    program : str
        One of the contender's programs.
    arguments : mapping
        The program's.
    """

    what: str
    who: str
    contender: str
    program: str
    arguments: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its name among the tasks of its contender."""
        return f"{self.what}: {self.who}"


@dataclass(frozen=True)
class Effort:
    """How long to look.

    Attributes
    ----------
    rounds : int
    burst : float
        Seconds that an entry works at a time, about; at least one step.
    step : float
        Seconds that a step takes at least; a shorter task is repeated within it.
    """

    rounds: int
    burst: float
    step: float = 0.002


@dataclass(frozen=True)
class Timing:
    """Seconds of one entry's task, in every step of all rounds."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the steps is faster than the first, and a quarter slower than the second."""
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Plan:
    """An entry whose task is made, and what it does in a turn.

    Attributes
    ----------
    entry : Entry
    steps : int
    repeat : int
        Runs of the task in each step.
    warm : bool
        Whether a run that is not timed comes first.
    """

    entry: Entry
    steps: int
    repeat: int
    warm: bool


@dataclass(frozen=True)
class Rounds:
    """What an interleaved run found.

    Attributes
    ----------
    timings : dict
        By what and who.
    others : float or None
        The share of all cores that others used meanwhile, where the system tells.
    """

    timings: dict[tuple[str, str], Timing]
    others: float | None


def prepare(crew: Crew, entries: Sequence[Entry], effort: Effort, say: Say) -> list[Plan]:
    """Make every entry's task, which warms it up, and see how long it takes."""
    plans = []
    for entry in entries:
        say(f"{entry.what}: {entry.who} warms up")
        order = ("prepare", entry.key, entry.program, dict(entry.arguments))
        seconds = max(1e-7, *crew.tell(entry.contender, *order))
        repeat = max(1, min(_MOST, round(effort.step / seconds)))
        plans.append(Plan(entry, max(1, round(effort.burst / (repeat * seconds))), repeat, seconds < _LONG))
    return plans


def take_turns(crew: Crew, plans: Sequence[Plan], rounds: int, say: Say) -> Rounds:
    """Time all entries in every round.

    Another one begins each time, since what comes after a long one may find a hotter processor.
    """
    seconds: dict[tuple[str, str], list[float]] = {(plan.entry.what, plan.entry.who): [] for plan in plans}
    others = Others(lambda: crew.cpu_seconds)
    for turn in range(rounds):
        say(f"{plans[-1].entry.what}: round {turn + 1} of {rounds}")
        first = turn % len(plans)
        awake = ""
        for plan in (*plans[first:], *plans[:first]):
            entry = plan.entry
            if entry.contender != awake:
                time.sleep(_PAUSE)
                awake = entry.contender
            seconds[entry.what, entry.who] += crew.time(
                entry.contender, entry.key, plan.steps, plan.repeat, plan.warm
            )
    return Rounds({of: Timing(found) for of, found in seconds.items()}, others.share())


def interleave(crew: Crew, entries: Sequence[Entry], effort: Effort, say: Say) -> Rounds:
    """Prepare all entries, and let them take turns."""
    return take_turns(crew, prepare(crew, entries, effort, say), effort.rounds, say)
