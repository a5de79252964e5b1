"""The Chrome trace format: runs and predicted timelines as Perfetto (ui.perfetto.dev) shows them.

One process a rank, one thread a row::

    rank 0   layers           [ forward                       ][ backward  ...
                               [ attention         ][ mlp    ]
                                [qkv]
             compute            [linear]    [softmax][ linear ]
             communication              [ all_reduce ]           an arrow to what waited for it
             saved bytes      a curve

Perfetto drops, without a word, a slice that begins inside another of its row and ends after it. Older ones
also cut times down to whole nanoseconds, start and duration each for itself: 1.001 µs becomes 1,000 ns.
So times are rounded to eighths of a microsecond: these are exact as floats and whole as nanoseconds, and no
reader can make two slices overlap that do not. What does overlap, such as non-blocking collectives, goes to
further rows.

References
----------
"Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tpsim.trace.slices import COMMUNICATION, COMPUTE, Reading, Slice

Event = dict[str, Any]
_Row = tuple[str, int]  # its name, and 0, or 1, 2, … for further rows of it
_LAYERS: _Row = ("layers", 0)
_TOP = (_LAYERS[0], COMPUTE, COMMUNICATION)  # rows from the top; then others as they come
_TICKS = 8  # a microsecond


def write(
    path: str | os.PathLike[str],
    ranks: Sequence[Iterable[Slice | Reading]],
    *,
    names: Sequence[str] | None = None,
) -> None:
    """Write what ranks did as a file that Perfetto and chrome://tracing open.

    Parameters
    ----------
    path : path
    ranks : sequence of iterables
        What each rank did; ranks of several runs, measured and predicted, may stand one after the other.
    names : sequence of str, optional
        Of the ranks; "rank 0", "rank 1", … by default.

    Raises
    ------
    ValueError
        If a time or a reading is not a number, or a slice waits for one that is not there.
    OSError
        If the file can't be written.
    """
    lines = (json.dumps(event, allow_nan=False) for event in events(ranks, names=names))
    # No "displayTimeUnit": older Perfettos take it for the unit of all times, newer ones complain of it.
    Path(path).write_text('{"traceEvents": [\n' + ",\n".join(lines) + "\n]}\n", encoding="ascii")


def events(ranks: Sequence[Iterable[Slice | Reading]], *, names: Sequence[str] | None = None) -> list[Event]:
    """Return the events that `write` writes, in their order."""
    names = [f"rank {rank}" for rank in range(len(ranks))] if names is None else names
    if len(names) != len(ranks):
        raise ValueError(f"names: {len(names)} names for {len(ranks)} ranks; give each rank one")
    threads, arrows = count(len(ranks)), count(1)  # a thread's number is no other's, nor a process's
    found: list[Event] = []
    for pid, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        everything = list(rank)
        slices = [one for one in everything if isinstance(one, Slice)]
        readings = [one for one in everything if isinstance(one, Reading)]
        spans = _placed(slices)
        spans = [*_layers(spans), *spans]
        tids = {row: next(threads) for row in _rows(spans)}
        found += _labels(pid, name, tids)
        timed = [_complete(span, pid, tids[span.row]) for span in spans]
        timed += [_counter(reading, pid, tids[_LAYERS]) for reading in readings]
        timed += _arrows(spans, pid, tids, arrows)
        found += sorted(timed, key=lambda event: event["ts"])  # stable: outer slices before inner ones
    return found


# --- where slices lie ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Span:
    """A slice's place: from one tick up to another, at least one later, on a row."""

    row: _Row
    name: str
    start: int
    end: int
    what: Slice


def _placed(slices: Iterable[Slice]) -> list[_Span]:
    """Put slices on rows on which each begins when the one before has ended; return them by start."""
    free: dict[str, list[int]] = {}  # when each of the rows of a name is
    spans = []
    for one in sorted(slices, key=lambda one: one.start):
        if one.row == _LAYERS[0]:
            raise ValueError(
                f"{one.name!r} is on row {one.row!r}, which is drawn by itself; pick another name"
            )
        start, end = _ticks(one, one.start), _ticks(one, one.start + one.seconds)
        lanes = free.setdefault(one.row, [])
        # A tick of overlap is rounding, and gives way.
        lane = next((lane for lane, time in enumerate(lanes) if start >= time - 1), len(lanes))
        if lane == len(lanes):
            lanes.append(0)
        start = max(start, lanes[lane])
        lanes[lane] = end = max(end, start + 1)
        spans.append(_Span((one.row, lane), one.name, start, end, one))
    return spans


def _layers(spans: Iterable[_Span]) -> list[_Span]:
    """Return slices for directions and layers, each around its parts; the outer before the inner.

    A layer lasts until the last of its slices ends, or another layer begins: what it left running, such as
    a non-blocking collective, is not waited for. What begins behind a kernel moves nobody to another layer.
    """
    found: list[_Span] = []
    inside: list[_Span] = []  # from the outermost to the innermost
    now = busy = 0
    for span in spans:
        now = max(now, span.start)
        path = _path(span.what)
        shared = 0
        while shared < min(len(path), len(inside)) and inside[shared].name == path[shared]:
            shared += 1
        if span.what.row == COMPUTE or span.start >= busy - 1:  # a tick is rounding
            for layer in inside[shared:]:
                layer.end = min(layer.end, now)
            del inside[shared:]
            for depth in range(shared, len(path)):
                layer = _Span(_LAYERS, path[depth], now, now, _around(span.what, path[: depth + 1]))
                inside.append(layer)
                found.append(layer)
            shared = len(path)
        for layer in inside[:shared]:
            layer.end = max(layer.end, span.end)
        if span.what.row == COMPUTE:
            busy = max(busy, span.end)
    return [layer for layer in found if layer.end > layer.start]


def _path(one: Slice) -> list[str]:
    """Return the direction and the layers around a slice: forward, blocks.0, attention, qkv."""
    layers = re.split(r"\.(?!\d+(?:\.|$))", one.layer) if one.layer else []
    return [one.phase, *layers] if one.phase else layers


def _around(one: Slice, path: Sequence[str]) -> Slice:
    """Return what stands for the layer, or the direction, at the end of a path around a slice."""
    layer = ".".join(path[1:] if one.phase else path)
    return Slice(row=_LAYERS[0], name=path[-1], start=one.start, seconds=0.0, layer=layer, phase=one.phase)


def _ticks(one: Slice | Reading, seconds: float) -> int:
    if not (math.isfinite(seconds) and seconds >= one.start >= 0):
        raise ValueError(
            f"{one.name!r} goes from {one.start} s to {seconds} s: a trace counts from 0, and nothing ends "
            "before it begins; mend the times"
        )
    return round(seconds * 1e6 * _TICKS)


def _rows(spans: Iterable[_Span]) -> list[_Row]:
    """Return the rows that slices are on, from the top."""
    used = dict.fromkeys([_LAYERS, *(span.row for span in spans)])
    names = list(dict.fromkeys([*_TOP, *(name for name, _ in used)]))
    return sorted(used, key=lambda row: (names.index(row[0]), row[1]))


# --- events -------------------------------------------------------------------------------------------------


def _labels(pid: int, name: str, tids: dict[_Row, int]) -> Iterator[Event]:
    first = next(iter(tids.values()))
    yield _label("process_name", pid, first, {"name": name})
    yield _label("process_sort_index", pid, first, {"sort_index": pid})
    for place, (row, tid) in enumerate(tids.items()):
        yield _label("thread_name", pid, tid, {"name": f"{row[0]} {row[1] + 1}" if row[1] else row[0]})
        yield _label("thread_sort_index", pid, tid, {"sort_index": place})


def _label(kind: str, pid: int, tid: int, args: Event) -> Event:
    return {"ph": "M", "ts": 0, "pid": pid, "tid": tid, "name": kind, "args": args}


def _complete(span: _Span, pid: int, tid: int) -> Event:
    args = {key: _plain(value) for key, value in span.what.args.items()}
    return {
        "ph": "X",
        "ts": span.start / _TICKS,
        "dur": (span.end - span.start) / _TICKS,
        "pid": pid,
        "tid": tid,
        "name": span.name,
        "cat": span.what.row,
        "args": {"layer": span.what.layer, "phase": span.what.phase, **args},
    }


def _counter(reading: Reading, pid: int, tid: int) -> Event:
    if not math.isfinite(reading.value):
        raise ValueError(f"{reading.name!r} is {reading.value}, which can't be drawn; leave the reading out")
    ts = _ticks(reading, reading.start) / _TICKS
    args = {reading.unit: reading.value}
    return {"ph": "C", "ts": ts, "pid": pid, "tid": tid, "name": reading.name, "args": args}


def _arrows(
    spans: Sequence[_Span], pid: int, tids: dict[_Row, int], numbers: Iterator[int]
) -> Iterator[Event]:
    """Yield the two ends of each arrow: the last tick of what was waited for, and where the waiter begins."""
    known: dict[Hashable, _Span] = {span.what.id: span for span in spans if span.what.id is not None}
    for waiter in spans:
        for name in waiter.what.waits_for:
            if name not in known:
                raise ValueError(
                    f"{waiter.name!r} waits for {name!r}, and no slice of its rank has that id; give one it"
                )
            before = known[name]
            if waiter.what.start + waiter.what.seconds < before.what.start:
                raise ValueError(
                    f"{waiter.name!r} waits for {before.name!r}, and ends before that begins; mend the times"
                )
            tail = min(before.end, waiter.end) - 1
            if tail < before.start:
                continue  # both are less than a tick long, and rounding put them the wrong way round
            number, head = next(numbers), max(waiter.start, tail)
            for phase, tick, span in (("s", tail, before), ("f", head, waiter)):
                event = {"ph": phase, "ts": tick / _TICKS, "pid": pid, "tid": tids[span.row], "id": number}
                yield event | {"name": "waited for", "cat": "wait"} | ({"bp": "e"} if phase == "f" else {})


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a number, or text."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
