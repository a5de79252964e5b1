"""What was graded already, on disk: a grader that was stopped goes on where it was."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from tpsim.lab.grading.grade import Grade


class Journal:
    """Grades by a key that hashes all that they depend on; one line of JSON each.

    Parameters
    ----------
    path : Path or None
        The file; None keeps nothing on disk.
    fresh : bool
        Whether to forget what it holds.
    """

    def __init__(self, path: Path | None, *, fresh: bool = False) -> None:
        self._path = path
        self._grades: dict[str, Grade] = {}
        if path is None:
            return
        if fresh:
            path.unlink(missing_ok=True)
        elif path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(
                    ValueError, KeyError, TypeError
                ):  # a line that a stopped grader left half written
                    entry = json.loads(line)
                    self._grades[entry["key"]] = Grade.from_dict(entry["grade"])

    def get(self, key: str) -> Grade | None:
        """Return the grade of a key, if it is known."""
        return self._grades.get(key)

    def put(self, key: str, grade: Grade) -> None:
        """Note a grade, at once."""
        self._grades[key] = grade
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "grade": grade.to_dict()}) + "\n")
