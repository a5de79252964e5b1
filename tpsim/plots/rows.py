"""The pictures that follow from an estimate's rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tpsim.plots.memory_stack import memory_stack
from tpsim.plots.speedup import speedup
from tpsim.plots.traffic import traffic


def from_rows(rows: Sequence[Mapping[str, Any]], limit: int, node: int) -> dict[str, Figure]:
    """Return figures by name: memory, and over several numbers of ranks traffic and speed-up as well.

    Parameters
    ----------
    rows : sequence of mapping
        Of an estimate, as `to_dict` gives them.
    limit : int
        Bytes that a device has.
    node : int
        Devices that share the fast links.
    """
    title = rows[0]["model"]
    figures = {"memory": memory_stack(rows, limit, title)}
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(_way(row), []).append(row)
    if len({row["ranks"] for row in rows}) > 1:
        figures["traffic"] = traffic(lines, title)
        figures["speedup"] = speedup(lines, node, title)
    return figures


def _way(row: Mapping[str, Any]) -> str:
    """Return what tells a line of rows from others."""
    name = "FSDP" if row["fsdp"] else "TP"
    options = [" + SP"] * row["sequence_parallel"]
    options += [f", {row['recompute']} recompute"] * (row["recompute"] != "none")
    return "".join([name, *options])
