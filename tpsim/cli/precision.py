"""`tpsim precision`: is a difference between t ranks and one device noise, or a bug?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.usage import UsageError, numbers, usage_errors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tpsim.studies.precision import Precision, Row


def precision(
    ranks: Annotated[str, typer.Option(help="Numbers of ranks; one device always runs.")] = "1,2,4,8",
    batch: Annotated[int, typer.Option(help="Sequences.")] = 2,
    seq: Annotated[int, typer.Option(help="Positions a sequence.")] = 32,
    hidden: Annotated[int, typer.Option(help="Width; the MLP's is 4 times that.")] = 64,
    heads: Annotated[int, typer.Option(help="Attention heads; all numbers of ranks divide them.")] = 8,
    seed: Annotated[int, typer.Option(help="Of weights and inputs.")] = 0,
    figures: Annotated[Path | None, typer.Option(help="Folder for precision.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and no table.")] = False,
) -> None:
    """Measure what float32, bfloat16 and float16 round, on one device and on several ranks.

    A transformer block, forward and backward, against float64: with every order of summing over ranks, in
    the dtype itself and in float32. And once with a planted bug.
    """
    from rich.console import Console

    with usage_errors():
        from tpsim.studies.precision import Sizes
        from tpsim.studies.precision import precision as study

        found = study(Sizes(batch, seq, hidden, heads, seed), ranks=numbers(ranks))
    console = Console()
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        _show(found, console)
    if figures is not None:
        drawn = _draw(found, figures)
        if not as_json:
            console.print(f"drawn: {drawn}", soft_wrap=True)


def _show(found: Precision, console: Console) -> None:
    s = found.sizes
    console.print(
        f"\nA transformer block (batch {s.batch}, seq {s.seq}, hidden {s.hidden}, {s.heads} heads) against "
        "float64 on one device.\n",
        style="bold",
    )
    console.print(_table(found))
    growth = max(map(found.growth, found.dtypes()))
    above = min(map(found.bug_above_noise, found.dtypes()))
    bug = found.buggy[0].bug
    console.print(
        f"\n[green]Noise[/]: however many ranks, and in whichever order they sum, y is off by at most "
        f"{growth:.1f} times what one device is.",
        highlight=False,
    )
    console.print(
        f"[bold red]A bug[/] ({bug}): {above:,.0f} times the noise and more, and y is off by "
        f"{_span(found.buggy)} whatever the dtype.",
        highlight=False,
    )


def _table(found: Precision) -> Table:
    from rich.table import Table

    table = Table(
        title="error, ‖difference‖ / ‖truth‖; a range is over orders of summing",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    columns = ("dtype", "ranks", "y", "y, float32 sums", "dx", "gradients", "× one device")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for dtype in found.dtypes():
        one = found.one_device(dtype)
        table.add_row(dtype, "1", _span([one]), "", *_worst([one], one))
        for t in found.ranks():
            of_t = found.of(dtype, t)
            sums = [_span(found.of(dtype, t, how)) for how in ("storage", "float32")]
            table.add_row("", str(t), *sums, *_worst(of_t, one))
        buggy = [row for row in found.buggy if row.dtype == dtype]
        table.add_row("", f"{buggy[0].ranks}, bug", _span(buggy), "", *_worst(buggy, one), style="red")
        table.add_section()
    return table


def _span(rows: Sequence[Row]) -> str:
    """Return the errors of y: one number, or the range, with one exponent."""
    low, high = min(row.y for row in rows), max(row.y for row in rows)
    exponent = math.floor(math.log10(high))
    first, last = (f"{error / 10**exponent:.2f}" for error in (low, high))
    return f"{first if first == last else f'{first}–{last}'}e{exponent:+03d}"


def _worst(rows: Sequence[Row], one: Row) -> tuple[str, str, str]:
    """Return the largest errors of dx and of weights' gradients, and y's in those of one device."""
    dx, grads = max(row.dx for row in rows), max(row.grads for row in rows)
    times = max(row.y for row in rows) / one.y
    return f"{dx:.1e}", f"{grads:.1e}", f"{times:.2f}" if times < 10 else f"{times:,.0f}"


def _draw(found: Precision, folder: Path) -> Path:
    from tpsim import plots

    path = folder / "precision.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows, buggy = ([asdict(row) for row in rows] for rows in (found.rows, found.buggy))
        plots.precision(rows, buggy).savefig(path)
    except OSError as error:
        raise UsageError(
            f"figures can't be written to {folder} ({error.strerror}); pass --figures with a folder that can"
        ) from None
    return path
