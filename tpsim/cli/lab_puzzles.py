"""`tpsim lab puzzles`: schedules to write, against a target of time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.usage import usage_errors

if TYPE_CHECKING:
    from tpsim.lab.puzzles.puzzle import Verdict

puzzles = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option("--dir", help="The folder that `start` made.")]
HERE = Path()


@puzzles.callback()
def about() -> None:
    """Place shards, order compute and collectives: meet a target of time and memory.

    Start with: tpsim lab puzzles start my-puzzles
    """


@puzzles.command()
def start(folder: Annotated[Path, typer.Argument(metavar="DIR", help="For your schedules.")]) -> None:
    """Copy the puzzles into a folder; what is there already is kept."""
    from tpsim.lab.puzzles.catalogue import PUZZLES
    from tpsim.lab.puzzles.puzzle import start

    with usage_errors():
        new = start(list(PUZZLES.values()), folder)
    typer.echo(f"{len(new)} puzzles written to {folder}, {len(PUZZLES) - len(new)} kept as they are")
    typer.echo(f"open {folder / PUZZLES[1].file_name}, then:  cd {folder} && tpsim lab puzzles check 1")


@puzzles.command("list")
def list_(folder: Folder = HERE) -> None:
    """Show all puzzles, their targets, and how your schedules do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tpsim.lab.puzzles.catalogue import PUZZLES
    from tpsim.lab.puzzles.puzzle import MIB, check_file

    table = Table("", "N", "puzzle", "devices", "ms", "target", "MiB", "target", "", box=None, pad_edge=False)
    for number, one in PUZZLES.items():
        path = folder / one.file_name
        verdict = check_file(one, path) if path.is_file() else None
        done = verdict.simulation if verdict else None
        table.add_row(
            "✓" if verdict and verdict.passed else "·",
            str(number),
            one.title,
            str(one.devices),
            f"{done.seconds * 1e3:.3f}" if done else "",
            f"{one.seconds * 1e3:.2f}",
            f"{verdict.peak / MIB:.0f}" if verdict and done else "",
            f"{one.memory / MIB:.0f}",
            Text(verdict.kind if verdict else "no file here"),
        )
    Console().print(table)


@puzzles.command()
def check(
    number: Annotated[int, typer.Argument(metavar="N", help="The puzzle's number.")],
    folder: Folder = HERE,
    figure: Annotated[Path | None, typer.Option(help="Also draw the timeline: a .png, .svg or .pdf.")] = None,
) -> None:
    """Run a schedule, draw its timeline, and judge it. Exit code 1 if it misses."""
    from tpsim.lab.puzzles.catalogue import find
    from tpsim.lab.puzzles.puzzle import check_file

    with usage_errors():
        puzzle = find(number)
        verdict = check_file(puzzle, folder / puzzle.file_name)
        _show(verdict)
        if figure is not None:
            _draw(verdict, figure)
    raise typer.Exit(0 if verdict.passed else 1)


def _show(verdict: Verdict) -> None:
    from tpsim.lab.puzzles.picture import text
    from tpsim.lab.puzzles.puzzle import MIB

    puzzle, done = verdict.puzzle, verdict.simulation
    typer.echo(f"{'✓' if verdict.passed else '✗'} {puzzle.number} · {puzzle.title}")
    if done is not None:
        typer.echo(f"  {done.seconds * 1e3:.3f} ms of {puzzle.seconds * 1e3:.2f}, ", nl=False)
        typer.echo(f"{verdict.peak / MIB:.0f} MiB of {puzzle.memory / MIB:.0f} on a device")
        typer.echo("\n".join(["", *text(done)]))
    if not verdict.passed:
        typer.echo(f"\n  {verdict.kind}: {verdict.what}\n  {verdict.why}".rstrip())


def _draw(verdict: Verdict, path: Path) -> None:
    if verdict.simulation is None:
        raise ValueError(f"--figure {path}: a schedule that breaks a rule has no timeline; mend it first")
    from tpsim.plots import timeline
    from tpsim.plots.timeline import waiting

    lanes = {f"device {rank}": spans for rank, spans in enumerate(verdict.simulation.spans) if spans}
    if not lanes:
        raise ValueError(f"--figure {path}: the schedule does nothing that can be drawn; write it first")
    exposed = {name: sum(end - start for start, end in waiting(spans)) for name, spans in lanes.items()}
    try:
        timeline(lanes, exposed, f"{verdict.puzzle.number} · {verdict.puzzle.title}").savefig(path)
    except OSError as error:
        raise ValueError(f"--figure {path} can't be written ({error.strerror}); pass another file") from None
    typer.echo(f"drawn: {path}")
