"""Launches with their prices: what a timeline is computed from, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from math import inf
from typing import Literal, TypeAlias

from tpsim.cost.gemm import itemsize
from tpsim.cost.hardware import Hardware
from tpsim.cost.host import Mode
from tpsim.cost.power import Demand
from tpsim.cost.stacks.program import is_backward
from tpsim.cost.work import Attention, Collective, Gemm, Launch, Pointwise, Work

Host: TypeAlias = Literal["eager", "graph"]


class Plan:
    """A list of launches for one device and host, each different work priced once.

    Attributes
    ----------
    launches : sequence of Launch
    hardware : Hardware
    host_seconds : float
        What the host takes to issue all of them.
    """

    def __init__(self, launches: Sequence[Launch], hardware: Hardware, host: Host) -> None:
        self.launches = launches
        self.hardware = hardware
        self.graph = host == "graph"
        places: dict[Work, int] = {}
        self._which = [places.setdefault(launch.work, len(places)) for launch in launches]
        self._works = list(places)
        self._computes = [launch.stream == "compute" for launch in launches]
        self._issue = self._issue_seconds()
        self.host_seconds = sum(self._issue)

    def run(self, heat: float, lead: float) -> tuple[list[float], list[float]]:
        """Return when each launch starts and ends, with a host that is `lead` seconds ahead."""
        prices = self._prices(heat)
        issued, compute_free, communication_free = -lead, 0.0, 0.0
        starts: list[float] = []
        ends: list[float] = []
        for launch, which, computes, issue in zip(
            self.launches, self._which, self._computes, self._issue, strict=True
        ):
            issued += issue
            start = compute_free if computes else communication_free
            if issued > start:
                start = issued
            for place in launch.after:
                if ends[place] > start:
                    start = ends[place]
            end = start + prices[which]
            if computes:
                compute_free = end
            else:
                communication_free = end
            starts.append(start)
            ends.append(end)
        return starts, ends

    def device_seconds(self, heat: float) -> float:
        """Return how long the device takes with everything issued ahead."""
        return max(self.run(heat, lead=inf)[1], default=0.0)

    def demand(self, heat: float) -> Demand:
        """Return what one repetition asks of the device's power.

        Parameters
        ----------
        heat : float
            At which its waiting is taken; the seconds that follow are those at the boost clock.
        """
        clock = self.hardware.power.clock(heat)
        period = max(self.device_seconds(heat), self.host_seconds)
        compute, matmul, memory = self._draws
        return Demand(compute, max(0.0, period - compute / clock), matmul, memory)

    @cached_property
    def _draws(self) -> tuple[float, float, float]:
        """Seconds that a lower clock stretches, and what FLOPs and bytes would take at the full rates."""
        hardware, counts = self.hardware, Counter(self._which)
        # A price is compute / clock + rest: two of them tell the compute.
        stretch = 1 / hardware.power.clock(1.0) - 1
        pairs = zip(self._prices(0.0), self._prices(1.0), strict=True)
        slowed = sum(counts[i] * (hot - cool) for i, (cool, hot) in enumerate(pairs))
        matmul = sum(counts[i] * matmul_seconds(work, hardware) for i, work in enumerate(self._works))
        memory = sum(counts[i] * memory_seconds(work, hardware) for i, work in enumerate(self._works))
        return (slowed / stretch if stretch else 0.0), matmul, memory

    def _prices(self, heat: float) -> list[float]:
        return [self.hardware.seconds(work, heat=heat, graph=self.graph) for work in self._works]

    def _issue_seconds(self) -> list[float]:
        if self.graph:
            return [0.0] * len(self.launches)
        host = self.hardware.host

        @lru_cache
        def price(calls: tuple[str, ...], mode: Mode) -> float:
            return host.turns * sum(host.seconds(call, mode) for call in calls if call)

        modes = list(_modes(self.launches))
        seconds = [
            price((*launch.before, launch.call), mode)
            for launch, mode in zip(self.launches, modes, strict=True)
        ]
        for place, (before, now) in enumerate(pairwise(["", *modes])):
            if now == "backward" != before:  # after a forward, or a forward that ran again
                seconds[place] += host.start
        return seconds


def _modes(launches: Sequence[Launch]) -> Iterator[Mode]:
    """Yield how the host issues each launch: autograd records a forward if there is a backward."""
    forward: Mode = "recorded" if any(launch.phase == "backward" for launch in launches) else "no_grad"
    for launch in launches:
        if is_backward(launch.layer, launch.phase):
            yield "backward"
        else:
            yield forward if launch.phase else "no_grad"  # an optimizer's step has no phase


def matmul_seconds(work: Work, hardware: Hardware) -> float:
    """Return what a work's FLOPs would take with every matrix unit busy; see `power.Demand`."""
    match work:
        case Gemm():
            return hardware.gemm.matmul_seconds(work)
        case Attention():
            return work.flops / hardware.gemm.rate[work.dtype]
        case _:
            return 0.0


def memory_seconds(work: Work, hardware: Hardware) -> float:
    """Return what a work's bytes would take at the full memory bandwidth; see `power.Demand`."""
    match work:
        case Gemm():
            return hardware.gemm.memory_seconds(work)
        case Attention():
            return attention_bytes(work) / hardware.gemm.bandwidth
        case Pointwise():
            return work.nbytes / hardware.gemm.bandwidth
        case Collective():
            return 2 * work.nbytes / hardware.gemm.bandwidth  # each byte is read, and written


def attention_bytes(work: Attention) -> int:
    """Return the bytes of q, k, v and the result; backward, of their gradients as well."""
    queries = work.heads * work.seq
    keys = work.kv_heads * work.kv_seq
    arrays = 1 if work.direction == "forward" else 2
    return 2 * arrays * work.batch * (queries + keys) * work.head_size * itemsize(work.dtype)
