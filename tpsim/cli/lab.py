"""`tpsim lab`: exercises that check themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.lab_bugs import bugs
from tpsim.cli.lab_grade import grade
from tpsim.cli.lab_puzzles import puzzles
from tpsim.cli.usage import usage_errors

if TYPE_CHECKING:
    from tpsim.lab.checking import Exercise
    from tpsim.lab.workbook import Workbook

lab = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
lab.command()(grade)
lab.add_typer(puzzles, name="puzzles")
lab.add_typer(bugs, name="bugs")

Number = Annotated[int, typer.Argument(metavar="N", help="The exercise's number.")]
Folder = Annotated[Path, typer.Option("--dir", help="The folder that `start` made.")]
HERE = Path()


@lab.callback()
def about() -> None:
    """Learn by writing it: exercises that check themselves.

    Start with: tpsim lab start my-lab
    """


@lab.command()
def start(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for your work.")],
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="A folder of a teacher's own exercises.")
    ] = None,
) -> None:
    """Copy the exercises into a folder; what is there already is kept."""
    from tpsim.lab.workbook import Workbook

    with usage_errors():
        book, new = Workbook.start(folder, tuple(others or ()))
    kept = len(book.exercises) - len(new)
    also = f", {kept} kept as they are" if kept else ""
    typer.echo(f"{len(new)} exercises written to {folder}{also}")
    following = book.next()
    if following is not None:
        path = book.path(following)
        typer.echo(f"open {path}, write it, then:  cd {folder} && tpsim lab check {following.number}")


@lab.command("list")
def list_(folder: Folder = HERE) -> None:
    """Show all exercises, and how far you are."""
    from rich.console import Console

    from tpsim.cli.lab_tables import progress

    with usage_errors():
        Console().print(progress(_open(folder)))


@lab.command()
def check(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="The exercise; without, all that you have begun.")
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Run an exercise on drawn cases; show the smallest that fails. Exit code 1 if any does."""
    from rich.console import Console

    from tpsim.cli.lab_tables import show

    console = Console()
    with usage_errors():
        book = _open(folder)
        chosen = [book.find(number)] if number is not None else _begun(book)
        results = []
        for exercise in chosen:
            results.append(book.check(exercise))
            show(results[-1], console, short=len(chosen) > 1)
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


@lab.command()
def watch(folder: Folder = HERE) -> None:
    """Check each exercise when you save it, until Ctrl-C."""
    from rich.console import Console

    from tpsim.cli.lab_tables import show
    from tpsim.lab.watching import saved

    console = Console()
    with usage_errors():
        book = _open(folder)
        console.print(f"watching {book.folder}; save a file to check it, Ctrl-C to stop")
        for exercise in saved(book):
            console.rule(exercise.file_name)
            show(book.check(exercise), console)


@lab.command()
def hint(number: Number, folder: Folder = HERE) -> None:
    """Give the next hint, of three."""
    with usage_errors():
        book = _open(folder)
        exercise = book.find(number)
        seen = book.hint(exercise)
    for level, text in enumerate(seen, 1):
        typer.echo(f"{level}/{len(exercise.hints)}  {text}")


@lab.command()
def reset(number: Number, folder: Folder = HERE) -> None:
    """Bring back the task as it was; your version is kept aside."""
    with usage_errors():
        book = _open(folder)
        exercise = book.find(number)
        kept = book.reset(exercise)
    typer.echo(f"{exercise.file_name} is as it was" + (f"; your version is in {kept}" if kept else ""))


@lab.command()
def solution(
    number: Number,
    reveal: Annotated[bool, typer.Option("--reveal", help="Before your own passes, too.")] = False,
    folder: Folder = HERE,
) -> None:
    """Show the solution, and another, once your own passes."""
    from rich.console import Console
    from rich.syntax import Syntax

    with usage_errors():
        book = _open(folder)
        sources = book.solution(book.find(number), reveal=reveal)
    console = Console()
    for title, source in zip(("the solution", "another"), sources, strict=True):
        console.rule(title)
        console.print(Syntax(source, "python", theme="ansi_dark", word_wrap=True))


def _open(folder: Path) -> Workbook:
    from tpsim.lab.workbook import Workbook

    return Workbook.open(folder)


def _begun(book: Workbook) -> list[Exercise]:
    begun = [one for one in book.exercises.values() if book.begun(one)]
    return begun or list(book.exercises.values())[:1]
