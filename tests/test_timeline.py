"""When launches run, on hardware whose prices are drawn: whole microseconds, so that sums are exact."""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tpsim.cost import hardware as profiles
from tpsim.cost.hardware import Hardware
from tpsim.cost.plan import Plan
from tpsim.cost.timeline import Timeline, kind, schedule, steady
from tpsim.cost.work import Attention, Collective, Gemm, Launch, Pointwise, Work


@dataclass
class Host:
    """A call is named after its price."""

    start: float = 0.0
    turns: float = 1.0

    def seconds(self, call: str, mode: str) -> float:
        return float(call)


@dataclass
class Priced:
    """A work's bytes are its price."""

    host: Host

    def seconds(self, work: Any, *, heat: float, graph: bool) -> float:
        return float(work.nbytes)


HARDWARE = cast("Hardware", Priced(Host()))


def compute(seconds: int, issue: int = 0, after: tuple[int, ...] = (), phase: str = "") -> Launch:
    return Launch(Pointwise("add", 1, 1, seconds), str(issue), phase=phase, after=after)


def communicate(seconds: int, issue: int = 0, after: tuple[int, ...] = ()) -> Launch:
    return Launch(Collective("all_reduce", seconds, 2), str(issue), "communication", after=after)


@st.composite
def programs(draw: st.DrawFn, free_communication: bool = False) -> list[Launch]:
    """Launches with dependencies on earlier ones of the other stream, as a trace may have them."""
    launches: list[Launch] = []
    for place in range(draw(st.integers(1, 12))):
        computes = draw(st.booleans())
        others = [i for i in range(place) if (launches[i].stream == "compute") != computes]
        after = tuple(draw(st.lists(st.sampled_from(others), max_size=2))) if others else ()
        issue = draw(st.integers(0, 5))
        if computes:
            launches.append(compute(draw(st.integers(0, 9)), issue, after))
        else:
            free = free_communication
            launches.append(communicate(0 if free else draw(st.integers(0, 9)), 0 if free else issue, after))
    return launches


def issue_of(launch: Launch) -> float:
    return float(launch.call)


def states(timeline: Timeline) -> dict[str, int]:
    """What the device does in every whole unit of time, looked at one by one."""
    counts = {"computes": 0, "communicates": 0, "idle": 0}
    for instant in range(int(timeline.seconds)):
        streams = {s.stream for s in timeline.spans if s.start <= instant < s.end}
        state = "computes" if "compute" in streams else "communicates" if streams else "idle"
        counts[state] += 1
    return counts


@given(programs())
def test_launches_of_one_stream_run_in_order_and_never_overlap(launches: list[Launch]) -> None:
    timeline = schedule(launches, HARDWARE)
    for stream in ("compute", "communication"):
        spans = [span for span in timeline.spans if span.stream == stream]
        assert all(one.end <= two.start for one, two in pairwise(spans))
        assert all(span.end - span.start == cast("Any", span.launch.work).nbytes for span in spans)


@given(programs())
def test_a_launch_starts_as_soon_as_stream_host_and_dependencies_let_it(launches: list[Launch]) -> None:
    timeline = schedule(launches, HARDWARE)
    for place, span in enumerate(timeline.spans):
        issued = sum(map(issue_of, launches[: place + 1]))
        same = [timeline.ends[i] for i in range(place) if launches[i].stream == span.stream]
        awaited = [timeline.ends[i] for i in span.launch.after]
        assert span.start == max([issued, *same, *awaited])


@given(programs())
def test_the_devices_time_is_computing_exposed_communication_or_waiting_for_the_host(
    launches: list[Launch],
) -> None:
    timeline = schedule(launches, HARDWARE)
    seen = states(timeline)
    assert timeline.compute == seen["computes"]
    assert timeline.exposed == seen["communicates"]
    assert timeline.host_bound == seen["idle"]


@given(programs())
def test_no_schedule_beats_its_busiest_stream_or_its_host(launches: list[Launch]) -> None:
    timeline = schedule(launches, HARDWARE)
    issue = sum(map(issue_of, launches))
    assert timeline.host_seconds == issue
    assert max(timeline.compute, timeline.communication, issue) <= timeline.seconds
    assert timeline.seconds <= timeline.compute + timeline.communication + issue


@given(programs(), st.data())
def test_more_work_never_shortens(launches: list[Launch], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(launches) - 1))
    longer = list(launches)
    work = cast("Any", longer[place].work)
    longer[place] = replace(longer[place], work=replace(work, nbytes=work.nbytes + 1))
    for when in (schedule, steady):
        options: dict[str, Any] = {"heat": 0.0}
        assert when(longer, HARDWARE, **options).seconds >= when(launches, HARDWARE, **options).seconds


@given(programs(free_communication=True))
def test_communication_that_takes_no_time_changes_nothing(launches: list[Launch]) -> None:
    alone = [replace(launch, after=()) for launch in launches if launch.stream == "compute"]
    assume(alone)
    assert schedule(launches, HARDWARE).seconds == schedule(alone, HARDWARE).seconds


@given(programs())
def test_a_graph_never_waits_for_its_host(launches: list[Launch]) -> None:
    timeline = schedule(launches, HARDWARE, host="graph")
    assert timeline.host_bound == 0
    assert timeline.host_seconds == 0


@given(programs())
def test_times_by_any_label_add_up(launches: list[Launch]) -> None:
    timeline = schedule(launches, HARDWARE)
    for label in (kind, lambda launch: launch.stream, lambda launch: launch.call):
        assert sum(timeline.by(label).values()) == timeline.seconds
        assert sum(timeline.busy_by(label).values()) == timeline.compute + timeline.communication


@given(programs())
@settings(deadline=None)
def test_steady_is_the_last_of_many_repetitions(launches: list[Launch]) -> None:
    count, times = len(launches), 70  # the host's lead grows by one at least, until it is a repetition's
    unrolled: list[Launch] = []
    for shift in range(0, times * count, count):
        before = tuple(range(shift - count, shift)) if shift else ()
        for launch in launches:
            after = tuple(place + shift for place in launch.after)
            unrolled.append(replace(launch, after=(*before, *after)))
    ends = schedule(unrolled, HARDWARE).ends
    began = max(ends[-2 * count : -count])
    assert list(steady(launches, HARDWARE, heat=0.0).ends) == [end - began for end in ends[-count:]]


def test_a_blocking_collective_is_exposed_and_one_behind_a_kernel_is_not() -> None:
    blocking = [compute(10), communicate(4, after=(0,)), compute(10, after=(1,)), compute(10)]
    behind = [compute(10), communicate(4, after=(0,)), compute(10), compute(10, after=(1,))]
    assert (schedule(blocking, HARDWARE).seconds, schedule(blocking, HARDWARE).exposed) == (34, 4)
    assert (schedule(behind, HARDWARE).seconds, schedule(behind, HARDWARE).exposed) == (30, 0)


def test_calls_that_take_turns_take_longer_and_the_start_of_autograd_does_not() -> None:
    launches = [compute(0, issue=2), compute(0, issue=3, phase="backward")]
    for turns in (1, 3):
        host = cast("Hardware", Priced(Host(start=7, turns=turns)))
        assert Plan(launches, host, "eager").host_seconds == 5 * turns + 7


def test_short_kernels_wait_for_their_host() -> None:
    timeline = steady([compute(2, issue=10), compute(3, issue=10)], HARDWARE, heat=0.0)
    assert (timeline.seconds, timeline.compute, timeline.host_bound) == (20, 5, 15)


@pytest.mark.parametrize(("phases", "starts"), [("f", 0), ("fbb", 1), ("fffbb", 1), ("fbfb", 2)])
def test_each_call_of_backward_costs_its_start(phases: str, starts: int) -> None:
    late = cast("Hardware", Priced(Host(start=7.0)))
    names = {"f": "forward", "b": "backward"}
    launches = [compute(1, 1, phase=names[phase]) for phase in phases]
    assert Plan(launches, late, "eager").host_seconds == len(phases) + 7 * starts


@dataclass
class Listening(Host):
    """Every call takes a second, and is written down."""

    heard: list[str] = field(default_factory=list)

    def seconds(self, call: str, mode: str) -> float:
        self.heard.append(f"{call} {mode}")
        return 1.0


def test_a_call_costs_what_autograd_makes_of_it() -> None:
    work = Pointwise("add", 1, 1, 1)
    forward = Launch(work, "f", phase="forward", before=("view",))
    backward = [
        Launch(work, "r", layer="block.recompute.mlp", phase="backward"),
        Launch(work, "b", phase="backward"),
    ]
    rest = [Launch(work, "", phase="forward"), Launch(work, "o")]
    for launches, heard in (
        ([forward], ["view no_grad", "f no_grad"]),
        (
            [forward, *backward, *rest],
            ["view recorded", "f recorded", "r recorded", "b backward", "o no_grad"],
        ),
    ):
        host = Listening()
        plan = Plan(launches, cast("Hardware", Priced(host)), "eager")
        assert host.heard == heard
        assert plan.host_seconds == len(heard)


# --- heat, on a real profile --------------------------------------------------------------------------------

PRODUCT = Launch(Gemm(8192, 8192, 8192), "linear")
COPY = Launch(Pointwise("copy", 8192, 8192, 2**28), "copy")


@pytest.mark.parametrize("copies", [0, 1, 4])
def test_the_heat_of_a_step_is_what_it_brings_about(copies: int) -> None:
    h200 = profiles.load("h200")
    step = [PRODUCT, *[COPY] * copies]
    heat = steady(step, h200).heat
    assert heat > 0
    assert h200.power.heat(Plan(step, h200, "eager").demand(heat)) == pytest.approx(heat, abs=1e-3)


def test_a_demand_takes_at_every_clock_what_the_step_takes() -> None:
    h200 = profiles.load("h200")
    demand = Plan([PRODUCT, COPY], h200, "eager").demand(0.0)
    for heat in (0.0, 0.5, 1.0):
        seconds = sum(h200.seconds(launch.work, heat=heat) for launch in (PRODUCT, COPY))
        assert demand.seconds(h200.power.clock(heat)) == pytest.approx(seconds, rel=0.01)
    assert demand.matmul == pytest.approx(h200.gemm.matmul_seconds(Gemm(8192, 8192, 8192)))


def test_a_step_that_waits_for_its_host_is_less_hot() -> None:
    h200 = profiles.load("h200")
    waiting = replace(PRODUCT, before=("view",) * 300)
    assert steady([waiting], h200).host_bound > 0
    assert steady([waiting], h200).heat < steady([PRODUCT], h200).heat
    assert steady([waiting], h200, host="graph").heat == steady([PRODUCT], h200, host="graph").heat


def test_copies_between_products_keep_the_clock_up_and_copies_alone_do_not_heat() -> None:
    h200 = profiles.load("h200")
    mixed = [steady([PRODUCT, *[COPY] * copies], h200).heat for copies in (0, 2, 20)]
    assert mixed == sorted(mixed, reverse=True)
    assert mixed[0] > mixed[-1]
    assert steady([COPY], h200).heat == 0


def test_a_step_that_is_repeated_a_few_times_is_less_hot() -> None:
    h200 = profiles.load("h200")
    heats = [steady([PRODUCT], h200, repeat=repeat).heat for repeat in (5, 100, 300, None)]
    assert heats[0] == 0
    assert heats == sorted(set(heats))


def test_the_heat_of_a_benchmark_is_that_of_the_time_it_keeps_the_device_busy() -> None:
    h200 = profiles.load("h200")
    run = steady([PRODUCT, COPY], h200, repeat=100)
    demand = Plan([PRODUCT, COPY], h200, "eager").demand(run.heat)
    heat = h200.power.heat(demand, busy=100 * run.seconds, rest=math.inf)
    assert run.heat == pytest.approx(heat, abs=1e-3)


def test_kinds_are_named_by_what_is_computed() -> None:
    works: list[Work] = [
        Gemm(1, 1, 1),
        Attention(1, 1, 1, 1, 1, 1),
        Pointwise("gelu", 1, 1, 1),
        Collective("send", 1, 2),
    ]
    assert [kind(Launch(work, "")) for work in works] == ["gemm", "attention", "gelu", "send"]
