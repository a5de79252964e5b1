"""Traces as `rich` tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from tpsim.trace.ledger import Trace


def human_bytes(count: float) -> str:
    """Return bytes with a binary unit: `human_bytes(1536)` is "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def collectives_table(traces: Sequence[Trace]) -> Table:
    """Return collectives by direction, layer and operation; one column of bytes a rank."""
    rows: dict[tuple[str, ...], list[list[int]]] = {}  # bytes of each event, rank by rank
    ways = {f"{e.algorithm}, group {e.group}" for trace in traces for e in trace.collectives}
    for rank, trace in enumerate(traces):
        for event in trace.collectives:
            shape = " × ".join(map(str, event.shape)) or "scalar"
            way = f" ({event.algorithm}, {event.group})" if len(ways) > 1 else ""
            key = event.phase, event.layer, event.operation + way, shape
            rows.setdefault(key, [[] for _ in traces])[rank].append(event.bytes_sent)
    title = f"bytes sent{f' ({ways.pop()})' if len(ways) == 1 else ''}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("direction", "layer", "operation", "array", "times"):
        table.add_column(column, justify="right" if column == "times" else "left")
    for position, trace in enumerate(traces):
        rank = trace.collectives[0].rank if trace.collectives else position
        table.add_column(f"rank {rank}", justify="right")
    for labels, sent in rows.items():
        times = max(map(len, sent))
        table.add_row(*labels, str(times), *(human_bytes(sum(count)) for count in sent))
    return table
