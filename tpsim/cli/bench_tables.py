"""What `tpsim bench` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from tpsim.studies.bench import wording
from tpsim.studies.bench.result import Row, Section
from tpsim.studies.bench.sizes import BLOCKS
from tpsim.studies.bench.study import Bench
from tpsim.studies.bench.targets import Finding

_TITLES = {
    "gemm": "matrix products, n × n",
    "block": "a transformer block, forward and backward, float32",
    "train": "a training step: forward, backward, clipping, AdamW; float32",
    "memory": "memory of a training step, MB",
}


def render(found: Bench) -> Iterator[RenderableType]:
    """Yield what to print: the machine, a table a section, targets, and what is doubtful or missing."""
    yield f"\n{wording.machine(found)}"
    quiet = wording.quiet(found)
    if quiet:
        yield f"[yellow]![/] {quiet}" if "doubtful" in quiet else quiet
    yield from (f"[yellow]![/] {words}" for words in found.missing)
    for section in found.sections:
        yield ""
        yield from _section(section)
        yield from section.notes
    yield ""
    yield _targets(found.findings)


def _section(section: Section) -> Iterator[RenderableType]:
    if section.name == "collectives":
        yield from _collectives(section.rows)
        return
    if section.name == "memory":
        yield _memory(section.rows)
        return
    table = _table(_TITLES[section.name], "", "ms", "quartiles", "GFLOP/s", "of peak")
    for what, rows in _grouped(section.rows, lambda row: row.what).items():
        table.add_row(f"[bold]{what}[/]" + (f": {BLOCKS[what]}" if section.name == "block" else ""))
        for row in rows:
            spread = f"{wording.milliseconds(row.low)}–{wording.milliseconds(row.high)}"
            cells = wording.milliseconds(row.value), spread, wording.three(row.rate / 1e9)
            table.add_row(f"  {row.who}", *cells, wording.percent(row.share))
    yield table


def _memory(rows: Sequence[Row]) -> Table:
    table = _table(_TITLES["memory"], "", "held at most", "counted by the trace", "ratio")
    for row in rows:
        counted = row.bound or 0.0
        table.add_row(
            row.what,
            *(wording.three(size / 1e6) for size in (row.value, counted)),
            f"{row.value / counted:.2f}",
        )
    return table


def _collectives(rows: Sequence[Row]) -> Iterator[Table]:
    """Yield a table for each operation: µs by size, and how near the largest comes to copies."""
    copies = [row for row in rows if row.what == "copy"]
    speeds = "; ".join(f"{row.who} {wording.rate(row)}" for row in copies)
    calls = [row for row in rows if row.what != "copy"]
    for operation, of_operation in _grouped(calls, lambda row: row.what.split(" ", 1)[0]).items():
        sizes = list(dict.fromkeys(row.what.split(" ", 1)[1] for row in of_operation))
        title = f"{operation}, µs by bytes of the whole array; copies move: {speeds}"
        table = _table(title, "", *sizes, "GB/s", "of copies")
        for who, of_who in _grouped(of_operation, lambda row: row.who).items():
            last = of_who[-1]
            times = [wording.three(1e6 * row.value) for row in of_who]
            table.add_row(who, *times, wording.three(last.rate / 1e9), wording.percent(last.share))
        yield table


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _targets(findings: Sequence[Finding]) -> Table:
    table = _table("targets", "", "measured", "must be", "")
    colours = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]not measured[/]"}
    for finding in findings:
        measured = "" if finding.measured is None else wording.three(finding.measured)
        what = f"{finding.target.number}  {finding.target.what}"
        table.add_row(what, measured, wording.limit(finding.target), colours[finding.holds])
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    return table
