"""Whether a file is a Chrome trace that Perfetto shows whole: nothing refused, nothing dropped silently."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

Event = dict[str, Any]
Row = tuple[Any, Any]  # pid, tid

_KEYS = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "pid", "tid", "ts", "dur"},
    "C": {"name", "pid", "ts", "args"},
    "s": {"name", "cat", "id", "pid", "tid", "ts"},
    "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
}
_LABELS = {
    "process_name": "name",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def violations(text: str) -> list[str]:
    """Return what is wrong with a trace, a sentence each; an empty list for a good one.

    Parameters
    ----------
    text : str
        Of the file: a JSON object whose "traceEvents" are metadata (M), complete events (X), counters (C)
        and flows (s, f).

    Notes
    -----
    Times are compared as the strictest readers have them: `ts` and `dur` are each cut down to whole
    nanoseconds, and events of the same time keep their order in the file.
    """
    try:
        trace = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        return [f"it is no JSON: {error}"]
    if not isinstance(trace, dict) or not isinstance(trace.get("traceEvents"), list):
        return ['it is no JSON object with a list of "traceEvents"']
    shaped: list[Event] = []
    found: list[str] = []
    for place, event in enumerate(trace["traceEvents"]):
        wrong = list(_misshapen(event))
        found += [f"event {place}: {what}" for what in wrong]
        if not wrong:
            shaped.append(event)
    shaped.sort(key=lambda event: _nanoseconds(event.get("ts", 0)))
    return [*found, *_unlabelled(shaped), *_overlaps(shaped), *_loose_flows(shaped)]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _misshapen(event: Any) -> Iterator[str]:
    """Yield what an event lacks, or has in another form."""
    if not isinstance(event, dict):
        yield "it is no object"
        return
    phase = event.get("ph")
    if not isinstance(phase, str) or phase not in _KEYS:
        yield f"its phase {phase!r} is none of {', '.join(_KEYS)}"
        return
    for key in sorted(_KEYS[phase] - event.keys()):
        yield f"phase {phase} has no {key!r}"
    for key in ("ts", "dur"):
        if key in event and not (_is_number(event[key]) and event[key] >= 0):
            yield f"{key} {event[key]!r} is no time from 0 on"
    for key in ("pid", "tid"):
        if key in event and (not isinstance(event[key], int) or isinstance(event[key], bool)):
            yield f"{key} {event[key]!r} is no whole number"
    args = event.get("args", {})
    if not isinstance(args, dict):
        yield "its args are no object"
    elif phase == "C" and not (args and all(map(_is_number, args.values()))):
        yield f"the counter's args {args!r} are not numbers"
    elif phase == "M" and event.get("name") in _LABELS and _LABELS[event["name"]] not in args:
        yield f"{event['name']} has no {_LABELS[event['name']]!r} in its args"
    if phase == "f" and event.get("bp", "e") != "e":
        yield f"bp {event['bp']!r} binds the arrow to the next slice, not to the one that it ends in"


def _unlabelled(events: Iterable[Event]) -> Iterator[str]:
    """Yield processes and rows without a name or a place, or with two, and thread numbers used twice."""
    events = list(events)
    labels = Counter(
        (event["name"], event["pid"], event["tid"] if event["name"].startswith("thread") else None)
        for event in events
        if event["ph"] == "M"
    )
    for (label, pid, tid), times in labels.items():
        if label in _LABELS and times > 1:
            yield f"{_called(pid, tid)} has {times} times a {label}"
    rows = {(event["pid"], event["tid"]) for event in events if event["ph"] in "Xsf"}
    for pid in sorted({event["pid"] for event in events}):
        for label in ("process_name", "process_sort_index"):
            if not labels[label, pid, None]:
                yield f"{_called(pid)} has no {label}"
    for row in sorted(rows):
        for label in ("thread_name", "thread_sort_index"):
            if not labels[(label, *row)]:
                yield f"{_called(*row)} has no {label}"
    for tid, times in Counter(tid for _, tid in rows).items():
        if times > 1:  # older Perfettos name a thread by its number alone
            yield f"tid {tid} is a row of {times} processes"


def _overlaps(events: Iterable[Event]) -> Iterator[str]:
    """Yield slices that begin inside another of their row and end after it."""
    inside: dict[Row, list[Event]] = {}
    for event in events:
        if event["ph"] != "X":
            continue
        stack = inside.setdefault((event["pid"], event["tid"]), [])
        start, end = _interval(event)
        while stack and _interval(stack[-1])[1] <= start:
            stack.pop()
        if stack and _interval(stack[-1])[1] < end:
            yield (
                f"{event['name']!r} at {event['ts']} us overlaps {stack[-1]['name']!r} at {stack[-1]['ts']} "
                f"us on {_called(event['pid'], event['tid'])}, and is dropped"
            )
        else:
            stack.append(event)


def _loose_flows(events: Iterable[Event]) -> Iterator[str]:
    """Yield arrows with an end missing or doubled, backwards in time, or with an end in no slice."""
    covered = _covered(events)
    ends: dict[tuple[Any, ...], list[Event]] = {}
    for event in events:
        if event["ph"] in "sf":
            ends.setdefault((event["cat"], event["name"], str(event["id"])), []).append(event)
            if not _inside(covered.get((event["pid"], event["tid"]), []), _nanoseconds(event["ts"])):
                where = _called(event["pid"], event["tid"])
                yield f"flow {event['id']!r}: its {event['ph']} at {event['ts']} us is in no slice on {where}"
    for (*_, number), pair in ends.items():
        begun, ended = ([event["ts"] for event in pair if event["ph"] == phase] for phase in "sf")
        if len(begun) != 1 or len(ended) != 1:
            yield f"flow {number!r} has {len(begun)} beginnings and {len(ended)} ends, not 1 and 1"
        elif begun > ended:
            yield f"flow {number!r} ends before it begins"


def _covered(events: Iterable[Event]) -> dict[Row, list[tuple[int, int]]]:
    """Return by row the times in which some slice lies, merged where they touch."""
    covered: dict[Row, list[tuple[int, int]]] = {}
    for event in events:
        if event["ph"] == "X":
            start, end = _interval(event)
            times = covered.setdefault((event["pid"], event["tid"]), [])
            if times and start <= times[-1][1]:
                times[-1] = (times[-1][0], max(end, times[-1][1]))
            else:
                times.append((start, end))
    return covered


def _inside(times: list[tuple[int, int]], moment: int) -> bool:
    place = bisect_right(times, moment, key=lambda time: time[0]) - 1
    return place >= 0 and moment < times[place][1]


def _interval(event: Event) -> tuple[int, int]:
    start = _nanoseconds(event["ts"])
    return start, start + _nanoseconds(event["dur"])


def _nanoseconds(microseconds: float) -> int:
    return int(microseconds * 1000.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _called(pid: Any, tid: Any = None) -> str:
    return f"process {pid}" if tid is None else f"row {tid} of process {pid}"
