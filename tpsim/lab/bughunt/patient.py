"""What is known of a patient: what its layer must do, what ails it, and where that was seen."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tpsim.lab.checking import Case, Exercise
from tpsim.lab.zoo.bug import Bug

RANKS = (1, 2, 4)
"""How many ranks a patient is examined on."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A layer with one planted bug.

    Attributes
    ----------
    exercise : Exercise
        What the layer must do. Its title and hints do not name the bug before the last hint.
    bug : str
        The bug's name in the zoo.
    threads : tuple of str
        Where it was seen: "pytorch/torchtitan#1805".
    story : str
        What happened there.
    fails, kind : str
        The property that the bug breaks first, and as what kind of mistake.
    shown : mapping of str to value
        The sizes of the one problem that it is examined on, at every t of `RANKS`.
    seed : int
        Of that problem's numbers.
    """

    exercise: Exercise
    bug: str
    threads: tuple[str, ...]
    story: str
    fails: str
    kind: str
    shown: Mapping[str, Any]
    seed: int = 0

    @property
    def links(self) -> list[str]:
        """The threads' addresses."""
        return [f"https://github.com/{thread.replace('#', '/issues/')}" for thread in self.threads]

    @property
    def sick(self) -> Path:
        """The file with the bug."""
        return self.exercise.folder / "task.py"

    @property
    def mended(self) -> Path:
        """The file without it."""
        return self.exercise.folder / "solution.py"

    def case(self, ranks: int) -> Case:
        """Return the case that it is examined on."""
        return Case(ranks, "float64", self.seed, tuple(self.shown.items()))

    def in_zoo(self) -> Bug:
        """Return what the zoo knows of the bug."""
        from tpsim.lab.zoo import ZOO

        return ZOO[self.bug]

    def lines(self) -> list[str]:
        """Return the lines of the sick file that are wrong, as "31: y = …"."""
        sick, mended = _lines(self.sick), _lines(self.mended)
        blocks = difflib.SequenceMatcher(None, sick, mended, autojunk=False).get_opcodes()
        wrong = [number for tag, start, end, *_ in blocks if tag != "equal" for number in range(start, end)]
        return [f"{number + 1}: {sick[number].strip()}" for number in wrong]

    def diff(self) -> list[str]:
        """Return how the file is mended, as a unified diff."""
        name = self.exercise.file_name
        sick, mended = _lines(self.sick), _lines(self.mended)
        return list(difflib.unified_diff(sick, mended, name, f"{name}, mended", n=2, lineterm=""))


def patients() -> dict[int, Patient]:
    """Return all patients by number, in order."""
    folders = sorted(Path(__file__).parent.glob("p[0-9][0-9]_*"))
    found = [_load(folder) for folder in folders if (folder / "__init__.py").is_file()]
    return {patient.exercise.number: patient for patient in found}


@cache
def _load(folder: Path) -> Patient:
    patient: Patient = importlib.import_module(f"tpsim.lab.bughunt.{folder.name}").PATIENT
    return replace(patient, exercise=replace(patient.exercise, folder=folder))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
