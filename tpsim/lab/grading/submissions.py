"""Reading what students handed in: folders, zips and single files. No path of theirs is ever written to."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MOST_FILE = 1 << 18
"""Bytes of one Python file."""
MOST_FILES = 200
"""Python files of one submission."""
_MOST_ENTRIES = 2000  # of any kind, in one folder or zip
_MOST_ZIP = 1 << 26  # bytes, packed


@dataclass(frozen=True)
class Submission:
    """What one student handed in.

    Attributes
    ----------
    student : str
        The name of the folder, zip or file.
    files : dict of str to bytes
        Python files by name; folders inside are not kept.
    problems : tuple of str
        What could not be read, and why.
    """

    student: str
    files: dict[str, bytes]
    problems: tuple[str, ...] = field(default=())


def read_submissions(root: Path, wanted: Iterable[str]) -> list[Submission]:
    """Return all submissions below `root`, by student.

    Parameters
    ----------
    root : Path
        A folder with one folder, zip or file for each student; or a single submission: a folder with files
        of the exercises in it, a zip, or a file. A single file is called `NN_name.py`, with the student in
        front: `ada_02_row_bias.py`.
    wanted : iterable of str
        The exercises' file names.

    Raises
    ------
    ValueError
        If there is nothing to grade.
    """
    wanted = set(wanted)
    if not root.exists():
        raise ValueError(f"{root} is not there; pass the folder that holds the submissions")
    if root.is_file() or any((root / name).is_file() for name in wanted):
        return [_read(root, wanted)]
    found: dict[str, Submission] = {}
    for path in sorted(root.iterdir()):
        if path.name.startswith((".", "__MACOSX")) or not (path.is_dir() or path.suffix in (".zip", ".py")):
            continue
        one = _read(path, wanted)
        had = found.get(one.student)
        if had is not None:  # several single files of one student
            one = Submission(one.student, {**had.files, **one.files}, had.problems + one.problems)
        found[one.student] = one
    if not found:
        raise ValueError(
            f"{root} holds no submissions; put one folder, zip or .py file in it for each student"
        )
    return list(found.values())


def _read(path: Path, wanted: set[str]) -> Submission:
    """Read one submission; what is wrong with it costs nobody but its student."""
    student = path.stem if path.is_file() else path.resolve().name
    reader = _Reader()
    try:
        if path.is_symlink():
            reader.problems.append("it is a link to somewhere else: hand in the files themselves")
        elif path.is_dir():
            reader.read_folder(path)
        elif path.suffix == ".zip":
            reader.read_zip(path)
        else:
            student, name = _split(path.name, wanted)
            reader.take(name, path.stat().st_size, lambda most: _read_file(path, most))
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        reader.problems.append(f"{path.name} can't be read: {error}")
    return Submission(student, reader.files, tuple(reader.problems))


def _split(name: str, wanted: set[str]) -> tuple[str, str]:
    """Return student and exercise of a file called like "ada_02_row_bias.py" or "ada_02_row_bias-1.py"."""
    plain = re.sub(r"-\d+\.py$", ".py", name)  # Canvas numbers what is handed in again
    for exercise in sorted(wanted, key=len, reverse=True):
        if plain.endswith(exercise):
            return plain.removesuffix(exercise).rstrip("_- ") or "submission", exercise
    return Path(name).stem, name


def _read_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


class _Reader:
    """Collects a submission's Python files, within limits."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.problems: list[str] = []

    def take(self, name: str, size: int, read: Callable[[int], bytes]) -> None:
        """Take a file, unless it is too large; `read` returns at most so many bytes."""
        if name in self.files:
            self.problems.append(f"{name} is there twice; the one in the outermost folder counts")
            return
        data = b"" if size > MOST_FILE else read(MOST_FILE + 1)
        if size > MOST_FILE or len(data) > MOST_FILE:
            self.problems.append(f"{name} is larger than {MOST_FILE >> 10} KiB")
        elif len(self.files) >= MOST_FILES:
            self.problems.append(f"{name} is left out: there are more than {MOST_FILES} files")
        else:
            self.files[name] = data

    def read_folder(self, folder: Path) -> None:
        """Take the Python files in a folder and below; links are not followed."""
        found = []
        for place, _ in zip(_walk(folder), range(_MOST_ENTRIES), strict=False):
            found.append(place)
        for path in sorted(found, key=lambda path: (len(path.parts), path)):
            self.take(path.name, path.stat().st_size, lambda most, path=path: _read_file(path, most))  # type: ignore[misc]

    def read_zip(self, path: Path) -> None:
        """Take the Python files in a zip: their last names only, and no more bytes than a file may have."""
        if path.stat().st_size > _MOST_ZIP:
            self.problems.append(f"{path.name} is larger than {_MOST_ZIP >> 20} MiB")
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES:
                self.problems.append(f"{path.name} holds {len(entries)} files, more than {_MOST_ENTRIES}")
                return
            places = [(PurePosixPath(entry.filename.replace("\\", "/")), entry) for entry in entries]
            for place, entry in sorted(places, key=lambda item: (len(item[0].parts), item[0])):
                if _is_ours(place.parts) and not entry.is_dir():

                    def read(most: int, entry: zipfile.ZipInfo = entry) -> bytes:
                        with archive.open(entry) as file:
                            return file.read(most)

                    self.take(place.name, entry.file_size, read)


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = Path(root, name)
            if _is_ours(path.parts[-1:]) and path.is_file() and not path.is_symlink():
                yield path


def _is_ours(parts: tuple[str, ...]) -> bool:
    """Tell whether a path is that of a student's Python file."""
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
    return bool(parts) and parts[-1].endswith(".py") and not hidden
