"""A run on a time axis: slices on named rows, of a real run or of a predicted timeline alike."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tpsim.trace.events import CollectiveEvent, KernelEvent
from tpsim.trace.ledger import Trace
from tpsim.trace.scope import Phase

COMPUTE, COMMUNICATION = "compute", "communication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Something that one rank did for a while.

    Attributes
    ----------
    row : str
        What did it: `COMPUTE`, `COMMUNICATION`, or another stream's name.
    name : str
        The kernel's or the collective's.
    start, seconds : float
        On a clock that all ranks share, from 0.
    layer, phase : str
        Whose work it is: a dotted path, and the direction.
    args : mapping
        What else to show: names and numbers or text.
    id : hashable, optional
        What others of the same rank call it by in their `waits_for`.
    waits_for : tuple
        The ids of slices that had to end before this one could begin.
    """

    row: str
    name: str
    start: float
    seconds: float
    layer: str = ""
    phase: Phase = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    id: Hashable = None
    waits_for: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A quantity from a moment on, until the next reading of its name."""

    name: str
    unit: str
    start: float
    value: float


def from_trace(trace: Trace, *, since: float | None = None) -> list[Slice | Reading]:
    """Return what a real run recorded, and the bytes it kept for backward over time.

    A kernel waits for the collectives that ended between the kernel before it and itself: in program
    order nothing of it could begin earlier.

    Parameters
    ----------
    trace : Trace
        Made with `kernels=True`, or it shows collectives alone.
    since : float, optional
        The `time.perf_counter()` that is second 0; by default the trace's beginning. The processes of one
        machine share that clock: pass the earliest `began` of all ranks to put them side by side.

    Raises
    ------
    ValueError
        For a dry run, which takes no time.
    """
    if trace.kernels and not any(kernel.seconds for kernel in trace.kernels):
        raise ValueError("from_trace: a dry run takes no time; predict its timeline on hardware first")
    shift = 0.0 if since is None else trace.began - since
    events: list[KernelEvent | CollectiveEvent] = [*trace.kernels, *trace.collectives]
    events.sort(key=lambda event: event.order)
    found: list[Slice | Reading] = []
    ended: list[Hashable] = []  # collectives since the last kernel
    for event in events:
        start, place = shift + event.start, (event.layer, event.phase)
        if isinstance(event, KernelEvent):
            found.append(_kernel(event, start, *place, tuple(ended)))
            ended.clear()
        else:
            ended.append((trace.began, event.order))  # several traces of a rank can be shown together
            found.append(_collective(event, start, *place, ended[-1]))
    ends = {event.order: shift + event.start + event.seconds for event in events}
    return found + saved_over_time(trace, ends, begin=shift)


def from_traces(ranks: Sequence[Sequence[Trace]]) -> list[list[Slice | Reading]]:
    """Return `from_trace` of all traces of every rank, on one clock."""
    since = min((trace.began for traces in ranks for trace in traces), default=0.0)
    return [[one for trace in traces for one in from_trace(trace, since=since)] for traces in ranks]


def saved_over_time(trace: Trace, ends: Mapping[int, float], *, begin: float = 0.0) -> list[Reading]:
    """Return the bytes that saved tensors keep alive, from moment to moment.

    Parameters
    ----------
    trace : Trace
    ends : mapping of int to float
        When each kernel and collective ended, by its `order`: measured or predicted.
    begin : float
        When the trace began: the moment of what was saved before the first of them.
    """
    changes: dict[int, int] = {}
    for tensor in trace.saved:
        changes[tensor.born] = changes.get(tensor.born, 0) + tensor.nbytes
        if tensor.died is not None:
            changes[tensor.died] = changes.get(tensor.died, 0) - tensor.nbytes
    orders = sorted(ends)
    levels: dict[float, int] = {}
    level, moment = 0, begin
    for order, change in sorted(changes.items()):
        level += change
        before = bisect_left(orders, order)
        if before:
            moment = max(moment, ends[orders[before - 1]])
        levels[moment] = level
    return [Reading("saved", "bytes", moment, level) for moment, level in levels.items()]


def _kernel(
    event: KernelEvent, start: float, layer: str, phase: Phase, waits_for: tuple[Hashable, ...]
) -> Slice:
    args = {
        "inputs": _shapes(event.inputs),
        "outputs": _shapes(event.outputs),
        "dtype": event.dtype,
        "flops": event.flops,
        "bytes_read": event.bytes_read,
        "bytes_written": event.bytes_written,
        **event.options,
    }
    return Slice(
        row=COMPUTE,
        name=event.name,
        start=start,
        seconds=event.seconds,
        layer=layer,
        phase=phase,
        args=args,
        waits_for=waits_for,
    )


def _collective(event: CollectiveEvent, start: float, layer: str, phase: Phase, name: Hashable) -> Slice:
    args = {
        "group": f"{event.group}, {event.ranks} ranks",
        "algorithm": event.algorithm,
        "shape": _shapes([event.shape]),
        "dtype": event.dtype,
        "bytes_sent": event.bytes_sent,
        "messages": event.messages,
    }
    return Slice(
        row=COMMUNICATION,
        name=event.operation,
        start=start,
        seconds=event.seconds,
        layer=layer,
        phase=phase,
        args=args,
        id=name,
    )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
