"""Where the time of real steps goes, by layer: GEMMs, other kernels, collectives, waiting, Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tpsim.trace.events import CollectiveEvent, KernelEvent
from tpsim.trace.ledger import Trace

GEMM, KERNELS, COLLECTIVES, WAITING, PYTHON = "GEMM", "other kernels", "collectives", "waiting", "Python"
KINDS = (GEMM, KERNELS, COLLECTIVES, WAITING, PYTHON)

Mates = Callable[[CollectiveEvent, int], Sequence[int]]
"""From a collective and the number of the rank that recorded it to all ranks that took part."""


@dataclass
class Row:
    """One layer's part of a step: seconds of each of `KINDS`, and FLOPs of the GEMMs."""

    layer: str
    seconds: dict[str, float]
    matmul_flops: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())


@dataclass
class Profile:
    """A mean step, of all ranks and all steps that were recorded.

    Attributes
    ----------
    rows : list of Row
        In the order in which a step comes to the layers. Their totals add up to `seconds`.
    ranks, steps : int
        Over how many the means are.
    """

    rows: list[Row]
    ranks: int
    steps: int

    @property
    def seconds(self) -> float:
        """A step's wall time."""
        return sum(row.total for row in self.rows)

    def of(self, kind: str) -> float:
        """Return the seconds of one of `KINDS` over all layers."""
        return sum(row.seconds[kind] for row in self.rows)


def profile(ranks: Sequence[Sequence[Trace]], mates: Mates) -> Profile:
    """Return where the time of a mean step went.

    A rank is in one place at a time. Inside a marked kernel, it computes: a kernel with a matrix product in
    it counts as GEMM. In a blocking collective it waits until the last of its mates has come, and takes part
    from then on; a non-blocking one counts as far as no kernel runs meanwhile. All else is Python, and
    counts for the layer of whatever comes next.

    Parameters
    ----------
    ranks : sequence of sequences of Trace
        Of every rank, its steps: one trace a step, made with `kernels=True`, on clocks that agree. Ranks run
        at once: where they take turns, a collective lasts as long as the others' work.
    mates : callable
        Who takes part in a collective.
    """
    steps = len(ranks[0])
    rows: dict[str, Row] = {}
    for step in range(steps):
        traces = [traces[step] for traces in ranks]
        arrivals = _arrivals(traces, mates)
        for rank, trace in enumerate(traces):
            _add(rows, trace, arrivals, rank)
    count = len(ranks) * steps
    for row in rows.values():
        row.seconds = {kind: seconds / count for kind, seconds in row.seconds.items()}
        row.matmul_flops /= count
    return Profile(list(rows.values()), len(ranks), steps)


def _arrivals(traces: Sequence[Trace], mates: Mates) -> dict[tuple[int, int], float]:
    """Return when the last rank came to each collective, by rank and the collective's place in its trace."""
    calls: defaultdict[tuple[object, ...], list[tuple[int, int, float]]] = defaultdict(list)
    for rank, trace in enumerate(traces):
        seen: defaultdict[tuple[object, ...], int] = defaultdict(int)
        for place, event in sorted(enumerate(trace.collectives), key=lambda item: item[1].begun):
            members = (event.group, *mates(event, rank))
            calls[(*members, seen[members])].append((rank, place, trace.began + event.start))
            seen[members] += 1
    return {
        (rank, place): max(start for _, _, start in came)
        for came in calls.values()
        for rank, place, _ in came
    }


def _add(rows: dict[str, Row], trace: Trace, arrivals: dict[tuple[int, int], float], rank: int) -> None:
    """Add one rank's step."""
    events: list[tuple[KernelEvent | CollectiveEvent, float]] = [(kernel, 0.0) for kernel in trace.kernels]
    events += [(event, arrivals[rank, place]) for place, event in enumerate(trace.collectives)]
    now, row = 0.0, None
    for event, last in sorted(events, key=lambda item: item[0].order):  # by the order of their ends
        row = rows.setdefault(_label(event), Row(_label(event), dict.fromkeys(KINDS, 0.0)))
        start, end = max(event.start, now), event.start + event.seconds
        row.seconds[PYTHON] += max(0.0, start - now)
        if isinstance(event, KernelEvent):
            row.seconds[GEMM if event.matmul_flops else KERNELS] += end - start
            row.matmul_flops += event.matmul_flops
        else:
            waited = min(max(last - trace.began - start, 0.0), end - start)
            row.seconds[WAITING] += waited
            row.seconds[COLLECTIVES] += max(0.0, end - start - waited)
        now = max(now, end)
    if row is not None:
        row.seconds[PYTHON] += max(0.0, trace.seconds - now)


def _label(event: KernelEvent | CollectiveEvent) -> str:
    """Return the layer, three names deep and with all blocks as one; outside of layers, the call itself."""
    if not event.layer:
        return event.name if isinstance(event, KernelEvent) else event.operation
    parts = ["*" if part.isdecimal() else part for part in event.layer.split(".")]
    return ".".join(parts[:3])
