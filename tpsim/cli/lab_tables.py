"""What `tpsim lab` prints: progress, and the outcome of a check."""

from __future__ import annotations

from textwrap import indent

from rich.console import Console
from rich.table import Table

from tpsim.lab.checking import Finding, Result
from tpsim.lab.workbook import Workbook


def progress(book: Workbook) -> Table:
    """Return all exercises with points and state."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "N", "exercise", "level", "chapter", "points", "hints"):
        table.add_column(column, justify="right" if column in ("N", "level", "chapter", "points") else "left")
    for number, one in book.exercises.items():
        standing = book.standing(one)
        mark = "[green]✓[/]" if standing.passed else "[yellow]…[/]" if book.begun(one) else "·"
        points = f"{standing.points}/{one.points}" if standing.checked else f"{one.points}"
        table.add_row(
            mark,
            str(number),
            one.title,
            "★" * one.level,
            str(one.chapter),
            points,
            f"{standing.hints} seen" if standing.hints else "",
        )
    passed = sum(book.standing(one).passed for one in book.exercises.values())
    table.caption = f"{passed} of {len(book.exercises)} passed"
    table.caption_justify = "left"
    return table


def show(result: Result, console: Console, *, short: bool = False, command: str = "tpsim lab") -> None:
    """Print the outcome of a check: what holds, and the smallest failing case of what does not."""
    exercise = result.exercise
    title = f"{exercise.number} · {exercise.title}"
    figures = f"{result.points}/{exercise.points} points, {result.cases} cases in {result.seconds:.1f} s"
    if result.passed:
        _line(console, f"✓ {title}: {figures}", "green")
        if not short:
            _line(console, f"compare with the solution: {command} solution {exercise.number}")
        return
    _line(console, f"✗ {title}: {figures}", "bold red")
    if short:
        _line(console, f"  {result.findings[0].what.splitlines()[0]}; see {command} check {exercise.number}")
        return
    for verdict in result.verdicts:
        holds = verdict.finding is None
        _line(
            console,
            f"  {'✓' if holds else '✗'} {verdict.says} ({verdict.points})",
            "green" if holds else "red",
        )
    first, *others = result.findings
    _case(first, console)
    for what in dict.fromkeys(other.what.splitlines()[0] for other in others if other.what != first.what):
        _line(console, f"  also: {what}")
    _line(console, f"\nstuck? {command} hint {exercise.number}", "dim")


def _case(finding: Finding, console: Console) -> None:
    _line(console, f"\nthe smallest case that fails: {finding.case}")
    _line(console, indent(finding.what, "  "), "bold")
    if finding.line:
        _line(console, f"  at {finding.line}")
    if finding.why:
        _line(console, f"  {finding.why}", "yellow")
    for line in finding.shown:
        _line(console, f"    {line}")
    if finding.printed:
        _line(console, "  it printed:")
        for line in finding.printed.splitlines()[:20]:
            _line(console, f"    {line}")


def _line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: nothing in it is markup."""
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)
