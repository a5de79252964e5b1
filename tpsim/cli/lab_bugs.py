"""`tpsim lab bugs`: layers with one planted bug each, to be found and mended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.usage import usage_errors

if TYPE_CHECKING:
    from tpsim.lab.bughunt import Casebook, Patient

bugs = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Number = Annotated[int, typer.Argument(metavar="N", help="The patient's number.")]
Folder = Annotated[Path, typer.Option("--dir", help="The folder that `start` made.")]
HERE = Path()


@bugs.callback()
def about() -> None:
    """Hunt bugs: layers with one bug each, all of them bugs that real systems had.

    Start with: tpsim lab bugs start my-bugs
    """


@bugs.command()
def start(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for your work.")]) -> None:
    """Copy the patients into a folder; what is there already is kept."""
    from tpsim.lab.bughunt import Casebook

    with usage_errors():
        book, new = Casebook.start(folder)
    kept = len(book.exercises) - len(new)
    also = f", {kept} kept as they are" if kept else ""
    typer.echo(f"{len(new)} patients written to {folder}{also}")
    typer.echo("each has one bug, and all but one of them are right on one rank")
    following = book.next()
    if following is not None:
        path = book.path(following)
        typer.echo(f"read {path}, then:  cd {folder} && tpsim lab bugs run {following.number}")


@bugs.command("list")
def list_(folder: Folder = HERE) -> None:
    """Show all patients, and which are mended."""
    from rich.console import Console

    from tpsim.cli.lab_bugs_tables import ward

    with usage_errors():
        Console().print(ward(_open(folder)))


@bugs.command()
def run(number: Number, folder: Folder = HERE) -> None:
    """Run a patient on 1, 2 and 4 ranks: which numbers are off, and what was communicated."""
    from rich.console import Console

    from tpsim.cli.lab_bugs_tables import show_examination
    from tpsim.lab.bughunt import examine

    with usage_errors():
        book, patient = _patient(folder, number)
        path = book.present(patient.exercise)
        show_examination(patient, examine(patient, path), Console())


@bugs.command()
def check(number: Number, folder: Folder = HERE) -> None:
    """Check a mended file on drawn cases; if it holds, tell the story of the real bug. Else exit code 1."""
    from rich.console import Console

    from tpsim.cli.lab_bugs_tables import show_check

    with usage_errors():
        book, patient = _patient(folder, number)
        result = book.check(patient.exercise)
        show_check(patient, result, Console())
    raise typer.Exit(0 if result.passed else 1)


@bugs.command()
def hint(number: Number, folder: Folder = HERE) -> None:
    """Give the next hint, of three."""
    with usage_errors():
        book, patient = _patient(folder, number)
        seen = book.hint(patient.exercise)
    for level, text in enumerate(seen, 1):
        typer.echo(f"{level}/{len(patient.exercise.hints)}  {text}")


@bugs.command()
def reveal(number: Number, folder: Folder = HERE) -> None:
    """Show the wrong line, how it is mended, and the story of the real bug."""
    from rich.console import Console

    from tpsim.cli.lab_bugs_tables import show_mend

    with usage_errors():
        _, patient = _patient(folder, number)
        show_mend(patient, Console())


@bugs.command()
def reset(number: Number, folder: Folder = HERE) -> None:
    """Bring the bug back; your version is kept aside."""
    with usage_errors():
        book, patient = _patient(folder, number)
        kept = book.reset(patient.exercise)
    also = f"; your version is in {kept}" if kept else ""
    typer.echo(f"{patient.exercise.file_name} is as it was{also}")


def _open(folder: Path) -> Casebook:
    from tpsim.lab.bughunt import Casebook

    return Casebook.open(folder)


def _patient(folder: Path, number: int) -> tuple[Casebook, Patient]:
    from tpsim.lab.bughunt import patients

    book = _open(folder)
    return book, patients()[book.find(number).number]
