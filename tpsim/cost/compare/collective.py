"""Measured collectives between two devices: queued, and in CUDA graphs."""

from __future__ import annotations

from tpsim.cost.collective import CollectiveModel
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.measured import operators
from tpsim.cost.work import Collective

NODE = 8
QUEUED = 8 * 2**20  # bytes; rows of less show the latency of an empty queue, as rows of one call do


def cases() -> list[Case[Collective]]:
    """Return the measured rows, by how they were issued."""
    measured = operators()
    graphs, issued = [], []
    for row in measured["collective"] + measured["eager_collective"]:
        work, what = Collective(row["op"], row["bytes"], row["ranks"]), f"{row['op']} {row['bytes']} bytes"
        if row.get("us_graph"):
            graphs.append(Case("collective, graph", what, work, row["us_graph"], graph=True))
        if "us_eager" in row:
            issued.append(Case("collective, one call", what, work, row["us_eager"]))
        else:
            group = "collective, queued" if row["bytes"] >= QUEUED else "collective, hardly queued"
            issued.append(Case(group, what, work, row["us"]))
    for row in measured["chain"]:
        work, what = Collective(row["op"], row["bytes"], 2), f"{row['op']} {row['bytes']} bytes (chain)"
        graph = row.get("graph", False)
        (graphs if graph else issued).append(
            Case("collective, graph" if graph else "collective, queued", what, work, row["us_coll"], graph)
        )
    return graphs + issued


def rows(model: CollectiveModel) -> list[Row]:
    """Return measured against modelled."""
    return [Row(c.group, c.what, c.measured_us, 1e6 * seconds(c, model)) for c in cases()]


def seconds(case: Case[Collective], model: CollectiveModel) -> float:
    """Return the modelled time of one row, with the wake where its queue was empty."""
    device = model.seconds(case.work, node=NODE, graph=case.graph)
    return device + (
        model.wake if case.group in {"collective, one call", "collective, hardly queued"} else 0.0
    )
