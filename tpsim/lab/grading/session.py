"""Grading many submissions: what is known is taken from the journal, the rest shared among processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing.util import Finalize
from pathlib import Path

from tpsim.lab.checking import Exercise, exercises
from tpsim.lab.grading.grade import Grade, digest, grade, nothing
from tpsim.lab.grading.host import Host, HostLostError
from tpsim.lab.grading.journal import Journal
from tpsim.lab.grading.limits import Limits
from tpsim.lab.grading.submissions import Submission


@dataclass(frozen=True)
class Settings:
    """How to grade.

    Attributes
    ----------
    seed : int
        Of the cases that are drawn.
    per_student_seed : bool
        Whether each student has cases of their own, from the seed and the student's name.
    examples : int
        Cases a property.
    limits : Limits
    jobs : int
        Processes.
    folders : tuple of Path
        Of exercises besides tpsim's own.
    sandbox : bool
        Whether submissions are run in one; without, nothing holds them to anything.
    """

    seed: int = 0
    per_student_seed: bool = False
    examples: int = 60
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1
    folders: tuple[Path, ...] = ()
    sandbox: bool = True

    def seed_of(self, student: str) -> int:
        """Return the seed of a student's cases."""
        if not self.per_student_seed:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed} {student}".encode()).digest()[:4], "little")


def unprotected() -> list[str]:
    """Return what this system does not hold submissions to: of "files", "network", "processes", "memory"."""
    if sys.platform == "win32":
        return ["files", "network", "processes", "memory"]
    with Host(Limits()) as host:
        return [name for name, held in host.protections.items() if not held]


def grade_all(
    submissions: Sequence[Submission],
    chosen: Sequence[Exercise],
    settings: Settings,
    journal: Journal,
    graded: Callable[[Grade], None] = lambda grade: None,
) -> list[Grade]:
    """Grade every exercise of every submission.

    Parameters
    ----------
    submissions : sequence of Submission
    chosen : sequence of Exercise
    settings : Settings
    journal : Journal
        Knows what was graded before, and is told of what is graded now.
    graded : callable
        Told of each grade, as it comes.

    Returns
    -------
    list of Grade
        By submission, then by exercise.
    """
    items = [_Item(one, exercise, settings) for one in submissions for exercise in chosen]
    waiting: dict[str, list[int]] = {}  # by key: the same submission twice is graded once
    grades: dict[int, Grade] = {}

    def note(key: str, found: Grade) -> None:
        for place in waiting.pop(key):
            grades[place] = replace(found, student=items[place].submission.student)
            graded(grades[place])

    for place, item in enumerate(items):
        waiting.setdefault(item.key, []).append(place)
    for key in list(waiting):
        known = journal.get(key)
        if known is not None:
            note(key, known)
    to_do = [items[places[0]] for places in waiting.values()]
    for item, found in _all_graded(to_do, settings):
        journal.put(item.key, found)
        note(item.key, found)
    return [grades[place] for place in range(len(items))]


class _Item:
    """One exercise of one submission."""

    def __init__(self, submission: Submission, exercise: Exercise, settings: Settings) -> None:
        self.submission = submission
        self.exercise = exercise
        self.seed = settings.seed_of(submission.student)
        self.key = digest(
            submission, exercise, self.seed, settings.examples, settings.limits, settings.sandbox
        )


def _all_graded(items: Sequence[_Item], settings: Settings) -> Iterator[tuple[_Item, Grade]]:
    """Yield grades as they come."""
    with tempfile.TemporaryDirectory(prefix="tpsim-grading-") as folder:
        if settings.jobs == 1 or len(items) < 2:
            with _Desk(settings, folder) as desk:
                for item in items:
                    yield item, desk.grade(item.submission, item.exercise, item.seed)
            return
        context = multiprocessing.get_context("spawn")
        jobs = min(settings.jobs, len(items))
        with ProcessPoolExecutor(jobs, context, _sit_down, (settings, folder)) as pool:
            futures = {
                pool.submit(_grade_here, item.submission, item.exercise.number, item.seed): item
                for item in items
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


class _Desk:
    """Where one process grades: its host, which is started when there is something to do."""

    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = Path(folder)
        self._host: Host | None = None

    def __enter__(self) -> _Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the host."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def grade(self, submission: Submission, exercise: Exercise, seed: int) -> Grade:
        """Grade one; if the host is lost over it twice, it is the submission's doing."""
        for _ in range(2):
            if self._host is None and self._settings.sandbox:
                self._host = Host(self._settings.limits, self._folder)
            try:
                return grade(self._host, submission, exercise, seed=seed, examples=self._settings.examples)
            except HostLostError:
                self.close()
        return nothing(submission, exercise, "stopped", "it ended the process that runs submissions")


_desk: _Desk  # of a process of the pool
_exercises: dict[int, Exercise]


def _sit_down(settings: Settings, folder: str) -> None:
    global _desk, _exercises
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shares out the work
    _desk = _Desk(settings, folder)
    _exercises = exercises(*settings.folders)
    Finalize(None, _desk.close, exitpriority=1)


def _grade_here(submission: Submission, exercise: int, seed: int) -> Grade:
    return _desk.grade(submission, _exercises[exercise], seed)
