"""`tpsim lab grade`: what a class handed in, graded."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpsim.cli.usage import UsageError, usage_errors

if TYPE_CHECKING:
    from tpsim.lab.grading.grade import Grade

_SERIOUS = {"files", "processes"}
"""Without these, a submission could read or harm what is not its own."""


def grade(
    submissions: Annotated[
        Path, typer.Argument(metavar="SUBMISSIONS", help="A folder: one folder, zip or .py file a student.")
    ],
    out: Annotated[Path, typer.Option(help="The table: one line a student and exercise.")] = Path(
        "results.csv"
    ),
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML.")] = None,
    gradescope: Annotated[
        Path | None,
        typer.Option(help="Also write Gradescope's results.json: this file, or in a folder one a student."),
    ] = None,
    only: Annotated[
        list[int] | None, typer.Option("--only", help="An exercise's number; may be repeated.")
    ] = None,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="A folder of your own exercises.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes (one a core).")] = None,
    seed: Annotated[int, typer.Option(help="Of the cases: the same seed, the same grades.")] = 0,
    per_student_seed: Annotated[
        bool, typer.Option("--per-student-seed", help="Cases of their own for each student.")
    ] = False,
    examples: Annotated[int, typer.Option(min=1, help="Cases drawn for an exercise.")] = 60,
    cpu: Annotated[int, typer.Option(min=1, help="Seconds of processor time a rank.")] = 10,
    answer: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for one answer.")] = 15.0,
    wall: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an exercise altogether.")] = 60.0,
    memory: Annotated[int, typer.Option(min=64, help="MiB of memory a rank.")] = 512,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade again what was graded before.")] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Grade even where this system can't confine submissions.")
    ] = False,
) -> None:
    """Grade what students handed in, each exercise in a sandbox of its own.

    Stop it and start it again: it goes on where it was, by the journal beside --out.
    """
    from rich.console import Console

    from tpsim.lab.checking import exercises
    from tpsim.lab.grading.journal import Journal
    from tpsim.lab.grading.limits import Limits
    from tpsim.lab.grading.session import Settings, grade_all, unprotected
    from tpsim.lab.grading.submissions import read_submissions

    console = Console()
    with usage_errors():
        known = exercises(*(others or ()))
        if odd := [number for number in only or () if number not in known]:
            raise ValueError(f"exercise {odd[0]} is not known; pick from {', '.join(map(str, known))}")
        chosen = [one for number, one in known.items() if not only or number in only]
        found = read_submissions(submissions, (one.file_name for one in known.values()))
        if gradescope is not None and gradescope.suffix == ".json" and len(found) > 1:
            raise ValueError(
                f"--gradescope {gradescope} is one file, and there are {len(found)} students; pass a folder"
            )
    missing = unprotected()
    _warn(missing, trust, console)
    settings = Settings(
        seed=seed,
        per_student_seed=per_student_seed,
        examples=examples,
        limits=Limits(cpu=cpu, answer=answer, wall=wall, memory=memory << 20),
        jobs=jobs or os.cpu_count() or 1,
        folders=tuple(others or ()),
        sandbox=os.name != "nt",
    )
    try:
        journal = Journal(out.with_name(f"{out.name}.journal"), fresh=fresh)
        grades = _with_progress(
            grade_all, (found, chosen, settings, journal), len(found) * len(chosen), console
        )
        _write(grades, out, junit, gradescope)
    except OSError as error:
        if error.filename is None:
            raise
        raise UsageError(
            f"{error.filename} can't be written ({error.strerror}); pass another --out"
        ) from None
    _show(grades, console)
    console.print(f"written: {out}", soft_wrap=True)


def _warn(missing: Sequence[str], trust: bool, console: Any) -> None:
    if not missing:
        return
    listed = ", ".join(missing)
    if _SERIOUS & set(missing) and not trust:
        raise UsageError(
            f"this system can't confine what submissions do with {listed}; grade on Linux (WSL and "
            "containers too), or pass --trust if you trust every one of them"
        )
    console.print(f"not confined on this system: {listed}", style="yellow")


def _with_progress(grade_all: Any, arguments: tuple[Any, ...], total: int, console: Any) -> list[Grade]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)

        def graded(one: Grade) -> None:
            progress.update(task, advance=1, description=f"{one.student[:30]} {one.title}")

        grades: list[Grade] = grade_all(*arguments, graded)
    return grades


def _write(grades: list[Grade], out: Path, junit: Path | None, gradescope: Path | None) -> None:
    from tpsim.lab.grading.reports import by_student, to_csv, to_gradescope, to_junit

    out.write_text(to_csv(grades), encoding="utf-8")
    if junit is not None:
        junit.write_text(to_junit(grades), encoding="utf-8")
    if gradescope is None:
        return
    for student, own in by_student(grades).items():
        path = gradescope if gradescope.suffix == ".json" else gradescope / student / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_gradescope(own), indent=2), encoding="utf-8")


def _show(grades: list[Grade], console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from tpsim.lab.grading.reports import by_student

    table = Table("student", "points", "of", "passed", "not handed in", "stopped", box=None)
    for student, own in by_student(grades).items():
        counts = [sum(one.status == status for one in own) for status in ("passed", "missing", "stopped")]
        points, possible = sum(one.points for one in own), sum(one.possible for one in own)
        table.add_row(Text(student), *map(str, (points, possible, *counts)))
    console.print(table)
    for one in grades:
        if one.status == "stopped":
            console.print(Text(f"{one.student} {one.title}: {one.why}"))
