"""A predicted timeline as a Chrome trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tpsim.cost.timeline import Span, Timeline, kind
from tpsim.studies.costs import Costs
from tpsim.trace import chrome
from tpsim.trace.slices import Slice

RANKS = 8  # drawn at most: all are alike
FIRST, LAST = 2, 1  # blocks that are drawn from the beginning and the end


def write(path: str | os.PathLike[str], row: Costs) -> None:
    """Write a row's microbatch, one process a rank.

    Ranks of a group do the same at the same time: the file has those of one group, at most 8.
    """
    group = row.plan.tp if row.plan.tp > 1 else row.plan.dp
    drawn = list(slices(row.timeline, row.plan.config.layers))
    chrome.write(path, [drawn] * min(group, RANKS))


def slices(timeline: Timeline, layers: int) -> Iterator[Slice]:
    """Yield what a microbatch launches, of its first two blocks, its last, and both ends.

    The blocks between are one slice on each row and in each direction, as long as they take: a large model
    has thousands of kernels that all look alike.
    """
    runs: dict[str, list[Span]] = {"compute": [], "communication": []}
    numbered = list(enumerate(timeline.spans))
    drawn = {place for place, span in numbered if not _between(span, layers)}
    for place, span in numbered:
        run = runs[span.stream]
        if run and (place in drawn or span.launch.phase != run[0].launch.phase):
            yield _blocks(run)
            run.clear()
        if place in drawn:
            yield _slice(place, span, tuple(other for other in span.launch.after if other in drawn))
        else:
            run.append(span)
    for run in runs.values():
        if run:
            yield _blocks(run)


def _between(span: Span, layers: int) -> bool:
    number = _block(span)
    return number is not None and FIRST <= number < layers - LAST


def _block(span: Span) -> int | None:
    """Return the number of the block that a launch belongs to."""
    path = span.launch.layer.split(".")
    return int(path[1]) if path[0] == "blocks" and len(path) > 1 else None


def _slice(place: int, span: Span, waits_for: tuple[int, ...]) -> Slice:
    launch, phase = span.launch, _phase(span)
    return Slice(
        row=span.stream,
        name=kind(launch),
        start=span.start,
        seconds=span.end - span.start,
        layer=launch.layer,
        phase=phase,
        args={**asdict(launch.work), "call": launch.call},
        id=place,
        waits_for=waits_for,
    )


def _blocks(run: list[Span]) -> Slice:
    """Return one slice for launches that are not drawn."""
    numbers = [number for number in map(_block, run) if number is not None]
    first, last = min(numbers), max(numbers)
    return Slice(
        row=run[0].stream,
        name=f"blocks {first} to {last}" if last > first else f"block {first}",
        start=run[0].start,
        seconds=run[-1].end - run[0].start,
        phase=_phase(run[0]),
        args={"launches": len(run)},
    )


def _phase(span: Span) -> Any:
    return span.launch.phase
