"""Finding exercises: every folder `eNN_name` of `tpsim/lab/exercises/`, and of a teacher's own folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from tpsim.lab.checking.exercise import Exercise

OURS = Path(__file__).parent.parent / "exercises"


def exercises(*others: Path) -> dict[int, Exercise]:
    """Return all exercises by number, in order.

    Parameters
    ----------
    *others : Path
        Folders of exercises besides tpsim's own.

    Raises
    ------
    ValueError
        If two have the same number, or a folder's name is not its exercise's.
    """
    found: dict[int, Exercise] = {}
    for root in (OURS, *others):
        for folder in sorted(root.glob("e[0-9][0-9]_*")):
            if not (folder / "__init__.py").is_file():
                continue
            exercise = _load(folder.resolve())
            if exercise.number in found:
                raise ValueError(
                    f"exercise {exercise.number} is there twice, in {found[exercise.number].folder} and "
                    f"{folder}; give one of them another number"
                )
            found[exercise.number] = exercise
    return dict(sorted(found.items()))


@cache
def _load(folder: Path) -> Exercise:
    exercise: Exercise = replace(_module(folder).EXERCISE, folder=folder)
    name = f"e{exercise.number:02}_{exercise.name}"
    if folder.name != name:
        raise ValueError(f"exercise folder {folder.name} holds {name}; rename one of them")
    return exercise


def _module(folder: Path) -> ModuleType:
    if folder.parent == OURS.resolve():
        return importlib.import_module(f"tpsim.lab.exercises.{folder.name}")
    spec = importlib.util.spec_from_file_location(f"tpsim_exercise_{folder.name}", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def submissions(exercise: Exercise, kinds: Sequence[str] = ("solution", "other", "wrong_*")) -> list[Path]:
    """Return an exercise's own submissions: the right ones and the wrong ones."""
    return [path for kind in kinds for path in sorted(exercise.folder.glob(f"{kind}.py"))]
