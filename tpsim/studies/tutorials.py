"""The tutorial chapters: where they are, and their cells as a notebook.

A chapter is Python in jupytext's percent format: a line `# %%` begins a cell of code, `# %% [markdown]` one
of text, which stands in comments.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tpsim

_BEGINS = re.compile(r"# %%( \[markdown\])?$")


@dataclass(frozen=True)
class Cell:
    """A cell: its kind, its text without comment signs, and the line it begins on."""

    kind: Literal["markdown", "code"]
    text: str
    line: int


def folder() -> Path:
    """Return where the chapters are: inside an installed package, beside the package in a clone."""
    package = Path(tpsim.__file__).parent
    inside = package / "tutorials"
    return inside if inside.is_dir() else package.parent / "tutorials"


def chapters() -> list[Path]:
    """Return the chapters' files, in order."""
    return sorted(folder().glob("[0-9][0-9]_*.py"))


def title(chapter: Path) -> str:
    """Return a chapter's title, "1 · Why split a matmul"."""
    with chapter.open(encoding="utf-8") as file:
        return next(line.removeprefix("# # ").strip() for line in file if line.startswith("# # "))


def cells(source: str) -> Iterator[Cell]:
    """Yield the cells of a chapter.

    Raises
    ------
    ValueError
        If something stands before the first cell, or a text cell holds more than comments.
    """
    kind: Literal["markdown", "code"] | None = None
    lines: list[str] = []
    began = 1
    for number, line in enumerate([*source.splitlines(), "# %%"], start=1):
        found = _BEGINS.match(line)
        if found is None:
            lines.append(_uncommented(line, number) if kind == "markdown" else line)
            continue
        text = "\n".join(lines).strip("\n")
        if kind is not None:
            yield Cell(kind, text, began)
        elif text:
            raise ValueError(
                f"line 1: {text.splitlines()[0]!r} stands before the first cell; put # %% above it"
            )
        kind, lines, began = ("markdown" if found[1] else "code"), [], number


def _uncommented(line: str, number: int) -> str:
    if line and not line.startswith("#"):
        raise ValueError(
            f"line {number}: {line!r} is code in a cell of text; begin it with # or put # %% above"
        )
    return line.removeprefix("#").removeprefix(" ")


def notebook(chapter: Path) -> dict[str, Any]:
    """Return a chapter in Jupyter's format, version 4.5, with nothing run yet."""
    found: list[dict[str, Any]] = []
    for number, cell in enumerate(cells(chapter.read_text(encoding="utf-8"))):
        only_code: dict[str, Any] = {"execution_count": None, "outputs": []} if cell.kind == "code" else {}
        found.append(
            {
                "cell_type": cell.kind,
                "id": f"{chapter.stem[:2]}-{number:02}",
                "metadata": {},
                "source": cell.text.splitlines(keepends=True),
                **only_code,
            }
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": found, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write_notebooks(target: Path) -> list[Path]:
    """Write every chapter as `target`/NAME.ipynb; return the files."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for chapter in chapters():
        path = target / f"{chapter.stem}.ipynb"
        path.write_text(json.dumps(notebook(chapter), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def copy_out(target: Path) -> Path:
    """Copy chapters and demos to a new folder, to write into.

    Raises
    ------
    ValueError
        If the folder is there already: a student's notes may be in it.
    """
    if target.exists():
        raise ValueError(f"copy: {target} is there already, and may hold your notes; name a new folder")
    return Path(shutil.copytree(folder(), target, ignore=shutil.ignore_patterns("__pycache__", "figures")))
