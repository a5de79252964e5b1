"""How comparisons look in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from tpsim.studies.validate import Comparison, Result
from tpsim.studies.validate.bounds import Errors


def render(results: Sequence[Result], *, every: bool = False) -> Iterator[RenderableType]:
    """Yield a table of each group's errors, tables of all rows if asked for, and the finding."""
    yield _summary(results)
    if every:
        for result in results:
            yield ""
            yield _rows(result)
    bounds = [result for result in results if result.bound]
    broken = [result.name for result in bounds if not result.holds]
    yield ""
    if broken:
        yield f"[red]✗[/] out of bounds: {'; '.join(broken)}"
    else:
        yield f"[green]✓[/] all {len(bounds)} bounds hold"


def _summary(results: Sequence[Result]) -> Table:
    table = Table(title="errors, in %", title_justify="left", box=None, pad_edge=False)
    table.add_column("what", width=32)
    for column in ("rows", "mean", "p90", "worst"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("must be")
    for result in results:
        bound = ""
        if result.bound:
            bound = f"{'[green]✓[/]' if result.holds else '[red]✗[/]'} {result.bound.words}"
        table.add_row(result.name, *_errors(result.rows), bound, style="bold" if result.bound else "")
        if round(result.errors.worst.error, 6):
            table.add_row(f"  worst: {result.errors.worst.what}", "", "", "", "", style="dim")
        for name, rows in result.parts():
            table.add_row(f"  {name}", *_errors(rows))
    return table


def _errors(rows: Sequence[Comparison]) -> list[str]:
    found = Errors.of(rows)
    return [str(len(rows)), _percent(found.mean), _percent(found.p90), _percent(found.worst.error, sign=True)]


def _rows(result: Result) -> Table:
    table = Table(title=result.name, title_justify="left", box=None, pad_edge=False)
    table.add_column("what")
    for column in ("theirs", "ours", "unit", "error, %"):
        table.add_column(column, justify="left" if column == "unit" else "right", no_wrap=True)
    several = bool(list(result.parts()))
    for row in result.rows:
        what = f"{row.group}: {row.what}" if several else row.what
        table.add_row(what, _number(row.theirs), _number(row.ours), row.unit, _percent(row.error, sign=True))
    return table


def _percent(share: float, *, sign: bool = False) -> str:
    if abs(share) < 5e-5:
        return "0"
    digits = 2 if abs(share) < 0.00995 else 1
    return f"{100 * share:{'+' if sign else ''}.{digits}f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
