"""A student's folder of exercises: the files to fill in, and how far they have come."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from tpsim.lab.checking import Exercise, Result, check_file, exercises

PROGRESS = ".progress.json"
BACKUP = ".backup"


@dataclass
class Standing:
    """How far one exercise has come: points at the last check, whether it ever passed, and hints seen."""

    points: int = 0
    passed: bool = False
    hints: int = 0
    checked: bool = False


@dataclass
class Workbook:
    """A folder that `start` made.

    Attributes
    ----------
    folder : Path
    exercises : dict of int to Exercise
        By number, in order.
    standings : dict of str to Standing
        By exercise name; missing where nothing happened yet.
    """

    COMMAND: ClassVar[str] = "tpsim lab"
    NOTES: ClassVar[str] = PROGRESS

    folder: Path
    exercises: dict[int, Exercise]
    standings: dict[str, Standing] = field(default_factory=dict)
    others: tuple[Path, ...] = ()

    @classmethod
    def known(cls, others: tuple[Path, ...] = ()) -> dict[int, Exercise]:
        """Return the exercises that such a folder holds, by number."""
        return exercises(*others)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the workbook in a folder, or in one that holds it.

        Raises
        ------
        ValueError
            If there is none.
        """
        for place in (folder.resolve(), *folder.resolve().parents):
            if (place / cls.NOTES).is_file():
                return cls._read(place)
        raise ValueError(
            f"folder {folder}: it holds no exercises; make some with `{cls.COMMAND} start DIR`, and run this "
            "inside of DIR (or pass --dir DIR)"
        )

    @classmethod
    def _read(cls, folder: Path) -> Self:
        try:
            kept = json.loads((folder / cls.NOTES).read_text(encoding="utf-8"))
            others = tuple(Path(other) for other in kept["others"])
            standings = {name: Standing(**one) for name, one in kept["standings"].items()}
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{folder / cls.NOTES}: it can't be read; delete it and run `{cls.COMMAND} start {folder}` "
                "again, which keeps your work"
            ) from None
        return cls(folder, cls.known(others), standings, others)

    @classmethod
    def start(cls, folder: Path, others: tuple[Path, ...] = ()) -> tuple[Self, list[Path]]:
        """Copy the tasks into a folder, over nothing that is there; return the workbook and the new files.

        Parameters
        ----------
        folder : Path
        others : tuple of Path
            Folders of exercises besides tpsim's own.

        Raises
        ------
        ValueError
            If the folder can't be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = cls._read(folder) if (folder / cls.NOTES).is_file() else None
            others = tuple(other.resolve() for other in others) or (before.others if before else ())
            book = cls(folder, cls.known(others), before.standings if before else {}, others)
            new = [one for one in book.exercises.values() if not book.path(one).exists()]
            for exercise in new:
                shutil.copyfile(exercise.folder / "task.py", book.path(exercise))
            book.save()
        except OSError as error:
            raise ValueError(
                f"folder {folder}: exercises can't be written there ({error.strerror}); pick another folder"
            ) from None
        return book, [book.path(one) for one in new]

    def path(self, exercise: Exercise) -> Path:
        """Return the student's file."""
        return self.folder / exercise.file_name

    def find(self, number: int) -> Exercise:
        """Return an exercise by number.

        Raises
        ------
        ValueError
            If there is none.
        """
        if number not in self.exercises:
            known = ", ".join(map(str, self.exercises))
            raise ValueError(f"exercise {number}: there is none; pick one of {known}")
        return self.exercises[number]

    def standing(self, exercise: Exercise) -> Standing:
        """Return how far an exercise has come."""
        return self.standings.setdefault(exercise.name, Standing())

    def begun(self, exercise: Exercise) -> bool:
        """Whether the student's file is there and is not the task any more."""
        path = self.path(exercise)
        return path.is_file() and path.read_bytes() != (exercise.folder / "task.py").read_bytes()

    def next(self) -> Exercise | None:
        """Return the first exercise that has not passed."""
        return next((one for one in self.exercises.values() if not self.standing(one).passed), None)

    def present(self, exercise: Exercise) -> Path:
        """Return the student's file.

        Raises
        ------
        ValueError
            If it is not there.
        """
        path = self.path(exercise)
        if not path.is_file():
            raise ValueError(
                f"exercise {exercise.number}: {path.name} is not in {self.folder}; bring it back with "
                f"`{self.COMMAND} reset {exercise.number}`"
            )
        return path

    def check(self, exercise: Exercise) -> Result:
        """Check the student's file, and note how it went.

        Raises
        ------
        ValueError
            If the file is not there.
        """
        result = check_file(exercise, self.present(exercise))
        standing = self.standing(exercise)
        standing.checked, standing.points = True, result.points
        standing.passed = standing.passed or result.passed
        self.save()
        return result

    def hint(self, exercise: Exercise) -> list[str]:
        """Return the hints seen so far and one more."""
        standing = self.standing(exercise)
        standing.hints = min(standing.hints + 1, len(exercise.hints))
        self.save()
        return list(exercise.hints[: standing.hints])

    def reset(self, exercise: Exercise) -> Path | None:
        """Bring back the task; return where the student's version is kept, if there was one."""
        kept = None
        if self.begun(exercise):
            (self.folder / BACKUP).mkdir(exist_ok=True)
            kept = self.folder / BACKUP / exercise.file_name
            shutil.copyfile(self.path(exercise), kept)
        shutil.copyfile(exercise.folder / "task.py", self.path(exercise))
        self.standings.pop(exercise.name, None)
        self.save()
        return kept

    def solution(self, exercise: Exercise, *, reveal: bool = False) -> list[str]:
        """Return the source of the solution, and of another.

        Raises
        ------
        ValueError
            Before a pass, unless `reveal`.
        """
        if not (reveal or self.standing(exercise).passed):
            raise ValueError(
                f"solution {exercise.number}: it opens when your own passes; ask for a hint "
                f"(`{self.COMMAND} hint {exercise.number}`), or pass --reveal"
            )
        return [
            (exercise.folder / f"{name}.py").read_text(encoding="utf-8") for name in ("solution", "other")
        ]

    def save(self) -> None:
        """Write down the progress, all or nothing."""
        kept = {
            "standings": {name: asdict(one) for name, one in self.standings.items()},
            "others": [str(other) for other in self.others],
        }
        new = self.folder / f"{self.NOTES}.new"
        new.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        os.replace(new, self.folder / self.NOTES)
