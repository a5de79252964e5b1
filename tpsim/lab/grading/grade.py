"""Grading one exercise of one submission."""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tpsim
from tpsim.lab.checking import Exercise, Finding, check, check_file
from tpsim.lab.grading.host import Host
from tpsim.lab.grading.runner import SandboxRunner
from tpsim.lab.grading.submissions import Submission

Status = Literal["passed", "failed", "stopped", "missing"]


@dataclass(frozen=True)
class Judged:
    """One property of an exercise: what it is worth, and the smallest case in which it does not hold."""

    name: str
    points: int
    possible: int
    failing: str = ""


@dataclass(frozen=True)
class Grade:
    """What one exercise of one submission is worth.

    Attributes
    ----------
    student : str
    exercise : int
        Its number.
    title : str
        "02_row_bias".
    points, possible : int
    status : {"passed", "failed", "stopped", "missing"}
        "stopped": its process could not go on, and it gets no points.
    why : str
        Why not all points, in words.
    seconds : float
    judged : tuple of Judged
        Property by property.
    printed : str
        What the submission printed in the failing case, at most some lines.
    """

    student: str
    exercise: int
    title: str
    points: int
    possible: int
    status: Status
    why: str = ""
    seconds: float = 0.0
    judged: tuple[Judged, ...] = field(default=())
    printed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Grade:
        """Undo `to_dict`."""
        return cls(**{**data, "judged": tuple(Judged(**one) for one in data["judged"])})


def grade(
    host: Host | None, submission: Submission, exercise: Exercise, *, seed: int = 0, examples: int = 60
) -> Grade:
    """Grade one exercise of one submission, in processes of its own.

    Parameters
    ----------
    host : Host or None
        Where its ranks are started. None runs it in this process: only for submissions that are trusted.
    submission : Submission
    exercise : Exercise
    seed : int
        The same seed gives the same cases, so the same grade.
    examples : int
        How many cases are drawn.

    Raises
    ------
    HostLostError
        If the host has ended: start another one, and grade again.
    """
    if exercise.file_name not in submission.files:
        why = "; ".join([f"{exercise.file_name} was not handed in", *submission.problems])
        return nothing(submission, exercise, "missing", why)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=None if host is None else host.scratch) as folder:
        path = Path(folder, exercise.file_name)
        path.write_bytes(submission.files[exercise.file_name])
        if host is None:
            result, gone = check_file(exercise, path, seed=seed, examples=examples), ""
        else:
            with SandboxRunner(host, path, exercise) as runner:
                result = check(exercise, runner, seed=seed, examples=examples)
                gone = runner.gone
    if gone:
        return nothing(submission, exercise, "stopped", gone, time.perf_counter() - began)
    judged = tuple(
        Judged(one.name, 0 if one.finding else one.points, one.points, _in_words(one.finding))
        for one in result.verdicts
    )
    return Grade(
        submission.student,
        exercise.number,
        _title(exercise),
        result.points,
        exercise.points,
        "passed" if result.passed else "failed",
        " · ".join(dict.fromkeys(_in_words(finding) for finding in result.findings)),
        round(time.perf_counter() - began, 3),
        judged,
        _plain("".join([finding.printed for finding in result.findings][:1])),
    )


def nothing(
    submission: Submission, exercise: Exercise, status: Status, why: str, seconds: float = 0.0
) -> Grade:
    """Return a grade of no points, all for one reason."""
    why = _plain(why)
    judged = tuple(Judged(one.name, 0, one.points, why) for one in exercise.properties)
    number, title = exercise.number, _title(exercise)
    return Grade(
        submission.student, number, title, 0, exercise.points, status, why, round(seconds, 3), judged
    )


def _title(exercise: Exercise) -> str:
    return exercise.file_name.removesuffix(".py")


def _in_words(finding: Finding | None) -> str:
    """Return a failing case as one line."""
    if finding is None:
        return ""
    words = f"{finding.kind}: {finding.case}: {finding.what}"
    if finding.why:
        words += f"; {finding.why}"
    if finding.line:
        words += f" ({finding.line})"
    return _plain(" ".join(words.split()))


def _plain(text: str) -> str:
    """Return text without what would steer the teacher's terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def digest(submission: Submission, exercise: Exercise, *settings: object) -> str:
    """Return a key of a grade: whatever it depends on, hashed."""
    file = submission.files.get(exercise.file_name)
    parts = file, submission.problems, tpsim.__version__, settings
    hashed = hashlib.sha256(repr(parts).encode())
    for path in sorted(exercise.folder.glob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()
