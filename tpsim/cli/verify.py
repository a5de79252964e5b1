"""`tpsim verify`: the equalities, checked on the user's machine with drawn configurations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.usage import UsageError, numbers, usage_errors

if TYPE_CHECKING:
    from rich.console import Console

    from tpsim.lab.zoo import Bug
    from tpsim.studies.verify import VerifyResult


def verify(
    ranks: Annotated[str, typer.Option(help="Numbers of ranks to draw from.")] = "1,2,3,4,8",
    cases: Annotated[int, typer.Option(help="How many configurations.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed draws the same ones.")] = 0,
    plant: Annotated[
        str | None,
        typer.Option(help="Plant a bug of the zoo, to see what failing looks like (? lists them)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw configurations of every layer and check that they equal the unsharded maths.

    Exit code 1, and the smallest failing case, if any does not.
    """
    from rich.console import Console

    console = Console()
    planted = _bug(plant, console)
    with usage_errors():
        result = _with_progress(numbers(ranks), cases, seed, planted, quiet=as_json)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result, planted, console)
    raise typer.Exit(0 if result.ok else 1)


def _bug(name: str | None, console: Console) -> Bug | None:
    if name is None:
        return None
    from tpsim.lab.zoo import ZOO

    if name == "?":
        for bug in ZOO.values():
            console.print(f"{bug.name:36} {bug.title}", highlight=False, soft_wrap=True)
        raise typer.Exit
    if name not in ZOO:
        raise UsageError(f"bug {name!r} is not in the zoo; pick one that --plant ? lists")
    return ZOO[name]


def _with_progress(
    ranks: list[int], cases: int, seed: int, planted: Bug | None, *, quiet: bool
) -> VerifyResult:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from tpsim.studies.verify import verify as study

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=cases)
        return study(
            ranks,
            cases,
            seed,
            progress=lambda done, total, check: bar.update(
                task, completed=done, total=total, description=check
            ),
            planted=planted,
        )


def _show(result: VerifyResult, planted: Bug | None, console: Console) -> None:
    from rich.table import Table

    if result.ok:
        table = Table(
            title="worst errors, relative to the largest entry or summed term",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for column in ("tensor", "dtype", "worst", "tolerance", "in", "checked"):
            table.add_column(
                column, justify="right" if column in ("worst", "tolerance", "checked") else "left"
            )
        for error in sorted(result.by_tensor(), key=lambda error: error.dtype, reverse=True):
            numbers = (f"{error.relative:.1e}", f"{error.tolerance:.0e}")
            table.add_row(error.tensor, error.dtype, *numbers, error.layer, str(error.cases))
        console.print(table)
    ranks = ", ".join(map(str, result.ranks))
    what = f"{result.cases} cases on {ranks} ranks in {result.seconds:.1f} s, seed {result.seed}"
    if result.failure is None:
        console.print(f"\n[green]✓ {what}: all equal to the unsharded maths, at the cost that is written[/]")
        return
    failure = result.failure
    console.print(f"\n[bold red]✗ {failure.check} fails[/] ({what})")
    console.print("the smallest case that was found:", end="\n  ")
    console.print(failure.case, highlight=False, soft_wrap=True)
    console.print(f"{failure.kind}: {failure.message}", highlight=False, soft_wrap=True, markup=False)
    if planted is not None:
        console.print(
            f"\nThis was planted: {planted.title}. {planted.goes_wrong}{_seen(planted)}",
            soft_wrap=True,
            markup=False,
        )


def _seen(bug: Bug) -> str:
    return f" Seen in {', '.join(bug.seen_in)}." if bug.seen_in else ""
