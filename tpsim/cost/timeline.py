"""When launches run: a host that issues one call after another, a compute and a communication stream.

A kernel starts when its stream is free, the host has issued it, and what it waits for has ended. All of the
device's time is then one of three: it computes; it only communicates (exposed communication); or it has
nothing to do, because the host has issued nothing yet (host-bound).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from tpsim.cost.hardware import Hardware
from tpsim.cost.plan import Host, Plan
from tpsim.cost.work import Attention, Gemm, Launch, Pointwise

Key: TypeAlias = Callable[[Launch], str]
Stream: TypeAlias = Literal["compute", "communication"]


class Span(NamedTuple):
    """One launch in time, in seconds."""

    stream: Stream
    launch: Launch
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """When each launch ran.

    Attributes
    ----------
    launches : sequence of Launch
    starts, ends : sequence of float
        Seconds, one for each launch.
    heat : float
        Of the device, as `Hardware.seconds` takes it.
    host_seconds : float
        What the host took to issue all.
    """

    launches: Sequence[Launch]
    starts: Sequence[float]
    ends: Sequence[float]
    heat: float
    host_seconds: float

    @property
    def spans(self) -> Iterator[Span]:
        """Every launch with its time, in program order."""
        for launch, start, end in zip(self.launches, self.starts, self.ends, strict=True):
            yield Span(launch.stream, launch, start, end)

    @cached_property
    def seconds(self) -> float:
        """From the beginning to the end of the last launch."""
        return max(self.ends, default=0.0)

    @cached_property
    def compute(self) -> float:
        """Seconds that the compute stream is busy."""
        return sum(end - start for start, end in self._intervals("compute"))

    @cached_property
    def communication(self) -> float:
        """Seconds that the communication stream is busy."""
        return sum(end - start for start, end in self._intervals("communication"))

    @property
    def exposed(self) -> float:
        """Seconds of communication with no computing beside it."""
        return self.communication - self._overlap

    @property
    def host_bound(self) -> float:
        """Seconds in which both streams wait for the host."""
        return max(0.0, self.seconds - self.compute - self.exposed)

    def by(self, key: Key) -> dict[str, float]:
        """Return seconds by a label of launches; they add up to `seconds`.

        A launch is charged with what it adds to the time at which everything before it has ended: with its
        waiting, and without what overlaps earlier launches. `kind`, or a launch's layer or phase, can be the
        label: `timeline.by(lambda launch: launch.phase)`.
        """
        totals: dict[str, float] = {}
        reached = 0.0
        for launch, end in zip(self.launches, self.ends, strict=True):
            label = key(launch)
            totals[label] = totals.get(label, 0.0) + max(0.0, end - reached)
            reached = max(reached, end)
        return totals

    def busy_by(self, key: Key) -> dict[str, float]:
        """Return seconds of the streams' work by a label of launches; overlapping work counts twice."""
        totals: dict[str, float] = {}
        for _, launch, start, end in self.spans:
            label = key(launch)
            totals[label] = totals.get(label, 0.0) + end - start
        return totals

    def _intervals(self, stream: Stream) -> list[tuple[float, float]]:
        return [(start, end) for name, _, start, end in self.spans if name == stream]

    @cached_property
    def _overlap(self) -> float:
        """Seconds that both streams are busy."""
        computing = iter(self._intervals("compute"))
        total, (start, end) = 0.0, next(computing, (math.inf, math.inf))
        for begun, ended in self._intervals("communication"):
            while end <= begun:
                start, end = next(computing, (math.inf, math.inf))
            while start < ended:
                total += min(end, ended) - max(start, begun)
                if end > ended:
                    break  # goes on beside the next collective
                start, end = next(computing, (math.inf, math.inf))
        return total


def kind(launch: Launch) -> str:
    """Return what kind of work a launch is: "gemm", "attention", or the kernel's or the collective's name."""
    match launch.work:
        case Gemm():
            return "gemm"
        case Attention():
            return "attention"
        case Pointwise(name):
            return name
        case collective:
            return collective.operation


def schedule(
    launches: Sequence[Launch], hardware: Hardware, *, host: Host = "eager", heat: float = 0.0
) -> Timeline:
    """Return when launches run, once, on a device and with a host that have nothing else to do.

    Parameters
    ----------
    launches : sequence of Launch
        In program order, from `stacks.launches`.
    hardware : Hardware
    host : {"eager", "graph"}
        Whether the host issues every call, or all is one CUDA graph.
    heat : float
        See `Hardware.seconds`.
    """
    return _timeline(Plan(launches, hardware, host), heat, lead=0.0)


def steady(
    launches: Sequence[Launch],
    hardware: Hardware,
    *,
    host: Host = "eager",
    heat: float | None = None,
    repeat: int | None = None,
    rest: float = math.inf,
) -> Timeline:
    """Return one repetition of a step that is repeated, as a training step is.

    A repetition starts on the device when the one before has ended; the host is ahead of the device, if it
    can be, and never waits for it.

    Parameters
    ----------
    launches, hardware, host
        As for `schedule`.
    heat : float, optional
        By default the one that the step brings about itself: a slower clock draws less power.
    repeat : int, optional
        How often the step is run, as a benchmark does, whose mean repetition is then returned: it may be
        over before the clock falls. By default without end.
    rest : float
        Seconds of idling before that; by default the device is a rested one.

    Returns
    -------
    Timeline
        From the end of one repetition to the end of the next.
    """
    plan = Plan(launches, hardware, host)
    if heat is None:
        heat = settled(plan, repeat, rest)
    if plan.device_seconds(heat) > plan.host_seconds:  # the host gets ahead, more each time
        return _timeline(plan, heat, lead=math.inf)
    # The first repetition ends late, for nothing was issued ahead. From the second on the host has a lead of
    # as much as that was late, and with it one more repetition takes just what the host takes.
    late = max(plan.run(heat, lead=0.0)[1], default=0.0) - plan.host_seconds
    return _timeline(plan, heat, lead=late)


def settled(plan: Plan, repeat: int | None = None, rest: float = math.inf) -> float:
    """Return the heat that a repeated step brings about, over all its repetitions.

    Heat makes kernels slower, and less power is drawn in a longer step. What a demand leaves out of that is
    only how waiting changes when kernels do, so that a few rounds find the heat that causes itself.
    """
    power, heat = plan.hardware.power, 0.0
    for _ in range(50):
        demand = plan.demand(heat)
        busy = None if repeat is None else repeat * demand.seconds(power.clock(heat))
        previous, heat = heat, power.heat(demand, busy=busy, rest=rest)
        if abs(heat - previous) < 1e-4:
            break
    return heat


def _timeline(plan: Plan, heat: float, lead: float) -> Timeline:
    starts, ends = plan.run(heat, lead)
    return Timeline(plan.launches, starts, ends, heat, plan.host_seconds)
