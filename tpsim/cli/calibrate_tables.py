"""What `tpsim calibrate` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from tpsim.cost.compare.case import Summary, summarise
from tpsim.studies.calibrate import Calibration
from tpsim.studies.validate.comparison import Comparison


def render(found: Calibration, comparisons: Sequence[Comparison]) -> Iterator[Table | str]:
    """Yield what to print: what was measured, how well the fit tells it again, and steps."""
    yield f"\n[bold]{found.profile['name']}[/]: {found.profile['about']}\n"
    errors = {summary.group: summary for summary in summarise(found.rows)}
    yield _products(found, errors)
    yield _passes(found, errors)
    yield _collectives(found, errors)
    yield f"Python from one call of a layer to the next: {1e6 * found.between:.1f} µs\n"
    if comparisons:
        yield _steps(comparisons)


def _products(found: Calibration, errors: dict[str, Summary]) -> Table:
    table = _table("matrix products", "", "fastest", "fit's error", "worst")
    for dtype in found.profile["gemm"]["rate"]:
        for group in (f"product, {dtype}", f"product, {dtype}, 16 at a time"):
            peak = f"{found.profile['peak_flops'][dtype] / 1e9:,.0f} GFLOP/s"
            table.add_row(group, peak, *_error(errors[group]))
    return table


def _passes(found: Calibration, errors: dict[str, Summary]) -> Table:
    dtype, cache = next(iter(found.profile["gemm"]["rate"])), found.profile["pointwise"]["cache"]
    columns = ("", "at least", "in cache", "in memory", "fit's error", "worst")
    table = _table(f"passes over arrays, {dtype}; half of {cache / 1e6:,.0f} MB is cached", *columns)
    families = found.profile["pointwise"]["families"]
    for name, family in families.items():
        if name.removesuffix(".float64") != name and name.removesuffix(".float64") in families:
            continue  # in the file; a line each would double the table
        rates = [f"{family[where] / 1e9:,.1f} GB/s" for where in ("cached", "bandwidth")]
        table.add_row(name, f"{1e6 * family['floor']:,.1f} µs", *rates, *_error(errors[name]))
    return table


def _collectives(found: Calibration, errors: dict[str, Summary]) -> Table:
    where = "virtual ranks" if found.world == "virtual" else f"{found.ranks} processes"
    table = _table(f"collectives among {where}", "", "a rank sends", "fit's error", "worst")
    section = found.profile["collective"]
    for operation, share in section["operations"].items():
        rate = f"{share * section['bandwidth'] / 1e9:,.1f} GB/s"
        table.add_row(operation, rate, *_error(errors[operation]))
    return table


def _steps(comparisons: Sequence[Comparison]) -> Table:
    table = _table("training steps, ms", "", "measured", "predicted", "error")
    for group, rows in groupby(comparisons, key=lambda row: row.group):
        table.add_row(group.partition(": ")[2])
        for row in rows:
            table.add_row(f"  {row.what}", f"{row.theirs:,.2f}", f"{row.ours:,.2f}", f"{row.error:+.0%}")
        table.add_section()
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    return table


def _error(summary: Summary) -> tuple[str, str]:
    return f"{summary.mean:.0%}", f"{summary.worst.error:+.0%}"
