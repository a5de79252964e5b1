"""Running a schedule: when each step runs, what memory is held, and what every block means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tpsim.cost.work import Collective, Gemm, Pointwise
from tpsim.lab.puzzles.device import Device, Step
from tpsim.lab.puzzles.machine import Prices
from tpsim.lab.puzzles.memory import Memory
from tpsim.lab.puzzles.shard import (
    ScheduleError,
    Shard,
    added,
    gathered,
    loaded,
    mapped,
    part_of,
    piece,
    product,
)

WIDTH = 2
"""Bytes of an element: bfloat16."""

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "shift")
_ELEMENT_WISE = {"gelu": 2, "norm": 2, "add": 3}  # blocks read and written


@dataclass(frozen=True)
class Given:
    """A tensor that is there at the start: its shape, and which of it a device may load.

    `where` is "anywhere", or "rows" or "columns": only its own share of these, as the layer before leaves it.
    """

    shape: tuple[int, int]
    where: str = "anywhere"


@dataclass
class Meeting:
    """A collective: what each device brings (step, block, and when it is there), and when it ends."""

    came: dict[int, tuple[Step, Shard, float]] = field(default_factory=dict)
    end: float | None = None


class Simulation:
    """Runs the steps of all devices.

    Attributes
    ----------
    spans : list of list of dict
        By device, what ran when, as `tpsim.plots.timeline` takes it, with a "label".
    memories : list of Memory
        By device.
    """

    def __init__(self, devices: Sequence[Device], given: Mapping[str, Given], prices: Prices) -> None:
        self.devices, self.given, self.prices = devices, given, prices
        self.memories = [Memory() for _ in devices]
        self.spans: list[list[dict[str, Any]]] = [[] for _ in devices]
        self.meetings: list[Meeting] = []
        self.links_free = 0.0
        self._clock = [0.0 for _ in devices]
        self._begun: list[dict[int, int]] = [{} for _ in devices]
        self._waited: list[set[int]] = [set() for _ in devices]
        self._run()

    @property
    def seconds(self) -> float:
        """When the last device is done."""
        return max((span["end"] for spans in self.spans for span in spans), default=0.0)

    def _run(self) -> None:
        places = [0 for _ in self.devices]
        while any(place < len(d.steps) for place, d in zip(places, self.devices, strict=True)):
            before = list(places)
            for rank, device in enumerate(self.devices):
                while places[rank] < len(device.steps) and self._does(rank, device.steps[places[rank]]):
                    places[rank] += 1
            if places == before:
                break
        for meeting in self.meetings:
            if meeting.end is None:
                self._explain_absence(meeting)
        for rank, device in enumerate(self.devices):
            for number in self._begun[rank].keys() - self._waited[rank]:
                step = device.steps[number]
                raise ScheduleError(
                    "never waited for",
                    f"line {step.line}, device {rank}: the {_words(step)} is begun and never waited for",
                    "what it gives is there once `wait` has returned",
                )

    def _explain_absence(self, meeting: Meeting) -> None:
        rank, (step, _, _) = next(iter(meeting.came.items()))
        away = ", ".join(str(d.rank) for d in self.devices if d.rank not in meeting.came)
        raise ScheduleError(
            "left waiting",
            f"line {step.line}, device {rank}: the {_words(step)} needs all devices; not begun on {away}",
            "every device must begin every collective, in the same order",
        )

    def _does(self, rank: int, step: Step) -> bool:
        """Run one step; return False if it has to wait for other devices."""
        try:
            return self._step(rank, step)
        except ScheduleError as error:
            what = f"line {step.line}, device {rank}: {error.what}"
            raise ScheduleError(error.kind, what, error.why) from None

    def _step(self, rank: int, step: Step) -> bool:
        memory = self.memories[rank]
        takes = [memory.get(block) for block in step.takes]
        match step.verb:
            case "load":
                self._load(rank, step)
            case "matmul":
                x, a = takes
                (m, k), n = x.shape, a.shape[1]
                self._compute(rank, step, product(x, a), "gemm", self.prices.seconds(Gemm(m, n, k)))
            case "gelu" | "norm":
                self._element_wise(rank, step, mapped(step.verb, takes[0]))
            case "add":
                total = added(takes)
                memory.free(step.takes[0], f"replaced by the sum at line {step.line}")
                self._element_wise(rank, step, total)
            case "drop":
                for block in step.takes:
                    memory.free(block, f"dropped at line {step.line}")
            case "wait":
                return self._wait(rank, step)
            case _:
                self._begin(rank, step, takes[0])
        return True

    def _load(self, rank: int, step: Step) -> None:
        if self._clock[rank] or self._begun[rank]:
            raise ScheduleError(
                "loads come first",
                f"{step.name} is loaded after work has begun",
                "a step starts with its tensors in place: move the load up",
            )
        if step.name not in self.given:
            raise ScheduleError(
                "no such tensor", f"there is no {step.name}", f"pick one of {', '.join(self.given)}"
            )
        given = self.given[step.name]
        rows, cols = part_of(given.shape[0], step.rows), part_of(given.shape[1], step.cols)
        own = {"rows": (rows, given.shape[0]), "columns": (cols, given.shape[1])}.get(given.where)
        if own is not None:
            start, stop = part_of(own[1], (rank, len(self.devices)))
            if not start <= own[0][0] < own[0][1] <= stop:
                raise ScheduleError(
                    "not on this device",
                    f"{step.name} lies cut by {given.where}: here are {start}:{stop}, not "
                    f"{own[0][0]}:{own[0][1]}",
                    "load your own share, and gather what you need of others'",
                )
        self._keep(rank, step, loaded(step.name, given.shape, rows, cols))

    def _keep(self, rank: int, step: Step, shard: Shard) -> None:
        self.memories[rank].shards[step.gives] = shard
        self.memories[rank].hold(step.gives, _nbytes(shard), step.line)

    def _element_wise(self, rank: int, step: Step, shard: Shard) -> None:
        rows, width = shard.shape
        work = Pointwise(step.verb, rows, width, _ELEMENT_WISE[step.verb] * _nbytes(shard))
        self._compute(rank, step, shard, "other", self.prices.seconds(work))

    def _compute(self, rank: int, step: Step, shard: Shard, kind: str, seconds: float) -> None:
        self._keep(rank, step, shard)
        label = step.verb if step.verb in _ELEMENT_WISE else str(shard.term)
        self._span(rank, "compute", kind, label, self._clock[rank], seconds)
        self._clock[rank] += seconds

    def _span(self, rank: int, stream: str, kind: str, label: str, start: float, seconds: float) -> None:
        span = {"stream": stream, "kind": kind, "label": label, "start": start, "end": start + seconds}
        self.spans[rank].append({**span, "phase": ""})

    def _begin(self, rank: int, step: Step, shard: Shard) -> None:
        memory, size, source = self.memories[rank], len(self.devices), step.takes[0]
        if step.verb == "all_reduce":  # in place
            memory.free(source, f"given to the all-reduce at line {step.line}, which `wait` returns")
        else:
            memory.travelling[source.number] = _words(step)
        share = {"all_gather": float(size), "reduce_scatter": 1 / size}.get(step.verb, 1.0)
        memory.hold(step.gives, int(_nbytes(shard) * share), step.line)
        place = len(self._begun[rank])
        self._begun[rank][step.gives] = place
        if place == len(self.meetings):
            self.meetings.append(Meeting())
        meeting = self.meetings[place]
        for other, (theirs, _, _) in meeting.came.items():
            if (theirs.verb, theirs.axis) != (step.verb, step.axis):
                axis = f" along axis {theirs.axis}" if theirs.verb == step.verb else ""
                raise ScheduleError(
                    "devices disagree",
                    f"{_words(step)} is begun where device {other} begins {_words(theirs)}{axis}",
                    "all devices begin the same collectives in the same order",
                )
        meeting.came[rank] = (step, shard, self._clock[rank])
        if len(meeting.came) == size:
            self._meet(meeting)

    def _meet(self, meeting: Meeting) -> None:
        """Let a collective run: all devices have begun it."""
        size, came = len(self.devices), [meeting.came[d.rank] for d in self.devices]
        step, shards = came[0][0], [shard for _, shard, _ in came]
        results = _RESULTS[step.verb](shards, step.axis)
        full = max(map(_nbytes, results if step.verb == "all_gather" else shards))
        operation = "send" if step.verb == "shift" else step.verb
        seconds = self.prices.seconds(Collective(operation, full, size)) if size > 1 else 0.0
        start = max(self.links_free, *(time for _, _, time in came))
        for rank, ((own, _, _), result) in enumerate(zip(came, results, strict=True)):
            self.memories[rank].shards[own.gives] = result
            self._span(rank, "communication", "collective", _words(own), start, seconds)
        meeting.end = self.links_free = start + seconds

    def _wait(self, rank: int, step: Step) -> bool:
        begun = self._begun[rank]
        if step.gives not in begun:
            raise ScheduleError("not there", "this device has not begun what it waits for", "begin it before")
        end = self.meetings[begun[step.gives]].end
        if end is None:
            return False
        self._clock[rank] = max(self._clock[rank], end)
        self._waited[rank].add(step.gives)
        source = self.devices[rank].steps[step.gives].takes[0].number
        still = begun.keys() - self._waited[rank]
        if all(self.devices[rank].steps[number].takes[0].number != source for number in still):
            self.memories[rank].travelling.pop(source, None)
        return True


def _reduced_and_cut(shards: Sequence[Shard], axis: int) -> list[Shard]:
    total = added(shards)
    return [piece(total, axis, rank, len(shards)) for rank in range(len(shards))]


_RESULTS: Mapping[str, Callable[[Sequence[Shard], int], list[Shard]]] = {
    "all_reduce": lambda shards, _: [added(shards)] * len(shards),
    "all_gather": lambda shards, axis: [gathered(shards, axis)] * len(shards),
    "reduce_scatter": _reduced_and_cut,
    "shift": lambda shards, _: [*shards[-1:], *shards[:-1]],
}


def _nbytes(shard: Shard) -> int:
    return shard.shape[0] * shard.shape[1] * WIDTH


def _words(step: Step) -> str:
    return step.verb.replace("_", "-")
