"""The demo's result as `rich` tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tpsim.studies.demo import DemoResult
from tpsim.trace.tables import human_bytes


def render(result: DemoResult) -> Iterator[RenderableType]:
    """Yield what `tpsim demo` prints, part by part."""
    yield _heading(result)
    yield _differences(result)
    yield _verdict(
        result.equal,
        f"equal to the unsharded maths: no entry differs by more than {result.tolerance:.0e} of the largest",
        f"NOT equal to the unsharded maths within {result.tolerance:.0e}",
    )
    yield _shards(result)
    yield _collectives(result)
    yield _traffic(result)
    yield _memory(result)
    yield _saved(result)


def _heading(result: DemoResult) -> Text:
    c = result.config
    way = "tensor and sequence parallelism" if c.sequence_parallel else "tensor parallelism"
    where = "processes under mpiexec" if result.world == "mpi" else "virtual ranks in one process"
    return Text(
        f"\nA transformer block (batch {c.batch}, seq {c.seq}, hidden {c.hidden}, {c.heads} heads, "
        f"{c.dtype}) with {way} on {c.ranks} {where}; collectives: {c.algorithm}.\n",
        style="bold",
    )


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """Return a table whose first `left` columns are aligned left, and the numbers right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _verdict(good: bool, yes: str, no: str) -> Text:
    return Text(f"{'✓' if good else '✗'} {yes if good else no}\n", style="green" if good else "bold red")


def _differences(result: DemoResult) -> Table:
    table = _table("largest difference from the reference", "tensor", "shape", "absolute", "relative", left=2)
    for name, difference in result.differences.items():
        label = name if name in ("y", "dx") else f"d {name}"
        numbers = (f"{difference.absolute:.1e}", f"{difference.relative:.1e}")
        table.add_row(label, _shape(difference.shape), *numbers)
    return table


def _shards(result: DemoResult) -> Table:
    table = _table("what a rank holds", "parameter", "whole", "on each rank", "cut", left=4)
    for record in result.parameters[0]:
        table.add_row(record.name, _shape(record.whole_shape), _shape(record.shape), record.sharding)
    whole = sum(record.nbytes for record in result.one_device.parameters)
    here = sum(record.nbytes for record in result.parameters[0])
    table.add_row("together", human_bytes(whole), human_bytes(here), "")
    return table


def _collectives(result: DemoResult) -> Table:
    columns = ("direction", "layer", "operation", "array", "sent", "formula")
    table = _table(
        "\ncollectives in order; bytes sent by a rank: counted, and by closed form", *columns, left=4
    )
    for row in result.collectives:
        table.add_row(
            row.phase, row.layer, row.operation, _shape(row.shape), _span(row.sent), _span(row.closed_form)
        )
    sent = [sum(row.sent[r] for row in result.collectives) for r in range(result.config.ranks)]
    closed = [sum(row.closed_form[r] for row in result.collectives) for r in range(result.config.ranks)]
    table.add_row("together", "", "", "", _span(sent), _span(closed))
    return table


def _span(values: list[int]) -> str:
    """Return one number, or the range over ranks."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} – {high:,}"


def _traffic(result: DemoResult) -> Text:
    if not result.counted:
        return Text(
            "  (nothing was sent message by message: a ring's closed form stands in)\n", style="yellow"
        )
    return _verdict(
        result.sent_as_predicted,
        "every rank sent what the closed form says",
        "bytes differ from the closed form",
    )


def _memory(result: DemoResult) -> Table:
    table = _table("saved for backward by layer", "layer", "one device", "rank 0", left=1)
    alone, here = result.one_device.saved_by_layer(), result.traces[0].saved_by_layer()
    for layer, nbytes in alone.items():
        table.add_row(layer, f"{nbytes:,}", f"{here.get(layer, 0):,}")
    table.add_row("together", f"{sum(alone.values()):,}", f"{sum(here.values()):,}")
    return table


def _saved(result: DemoResult) -> Text:
    formula = f"{result.saved_symbols} = {result.saved_formula:,.0f}"
    return _verdict(
        result.saved_as_predicted,
        f"every rank saved {formula} bytes, as Korthikanti et al. (2022) say",
        f"saved {_span(result.activation_bytes)} bytes; Korthikanti et al. (2022) say {formula}",
    )
