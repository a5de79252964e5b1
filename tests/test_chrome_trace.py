"""Chrome traces: what Perfetto needs of them, from drawn slices and real runs, and the check for it."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from mpi_jobs import needs_mpi

from tpsim import Trace, run
from tpsim.comm import Group, Mesh
from tpsim.comm.mpi import find_mpiexec
from tpsim.functional import linear
from tpsim.studies.demo import DemoConfig, on_rank
from tpsim.trace import KernelEvent, scope
from tpsim.trace.chrome import events, write
from tpsim.trace.chrome_check import violations
from tpsim.trace.slices import COMMUNICATION, COMPUTE, Reading, Slice, from_trace, from_traces
from tpsim.train.tracing import SHOWN, StepTraces

Event = dict[str, Any]


def slice_on(row: str, start: float, seconds: float, name: str = "work", **more: Any) -> Slice:
    """A slice in microseconds."""
    return Slice(row=row, name=name, start=start * 1e-6, seconds=seconds * 1e-6, **more)


def rows(found: list[Event]) -> dict[tuple[str, str], list[Event]]:
    """The complete events by the names of their process and row."""
    processes = {e["pid"]: e["args"]["name"] for e in found if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in found if e["name"] == "thread_name"}
    there: dict[tuple[str, str], list[Event]] = {}
    for event in found:
        if event["ph"] == "X":
            row = processes[event["pid"]], threads[event["pid"], event["tid"]]
            there.setdefault(row, []).append(event)
    return there


def times(row: list[Event]) -> list[tuple[str, float, float]]:
    return [(event["name"], event["ts"], event["ts"] + event["dur"]) for event in row]


def collectives(found: list[Event]) -> dict[int, list[Event]]:
    """By process."""
    there: dict[int, list[Event]] = {}
    for event in found:
        if event["ph"] == "X" and event["cat"] == COMMUNICATION:
            there.setdefault(event["pid"], []).append(event)
    return there


SECONDS = st.one_of(st.floats(0, 1e-2), st.floats(0, 1e-6), st.just(0.0))


@st.composite
def ranks(draw: st.DrawFn, seconds: st.SearchStrategy[float] = SECONDS) -> list[Slice | Reading]:
    """What a rank did, in any order and overlapping in any way."""
    found: list[Slice | Reading] = []
    for place in range(draw(st.integers(0, 12))):
        start = draw(SECONDS)
        over = [o.id for o in found if isinstance(o, Slice) and o.start + o.seconds <= start]
        found.append(
            Slice(
                row=draw(st.sampled_from([COMPUTE, COMMUNICATION, "communication 2", "copies"])),
                name=draw(st.sampled_from(["linear", "all_reduce", 'é "quoted"\n'])),
                start=start,
                seconds=draw(seconds),
                layer=draw(st.sampled_from(["", "mlp.up", "mlp.down", "blocks.0.mlp.up", "blocks.1"])),
                phase=draw(st.sampled_from(["", "forward", "backward"])),
                args={"x": draw(st.one_of(st.integers(), st.floats(), st.text()))},
                id=place,
                waits_for=tuple(draw(st.lists(st.sampled_from(over), unique=True))) if over else (),
            )
        )
    found += [Reading("saved", "bytes", draw(SECONDS), draw(st.integers(0, 99))) for _ in range(3)]
    return draw(st.permutations(found))


# --- the file -----------------------------------------------------------------------------------------------


@given(st.lists(ranks(), min_size=1, max_size=3))
def test_whatever_is_written_is_shown_whole(what: list[list[Slice | Reading]]) -> None:
    found = events(what)
    assert violations(json.dumps({"traceEvents": found})) == []
    slices = [one for rank in what for one in rank if isinstance(one, Slice)]
    drawn = [event for event in found if event["ph"] == "X" and event["cat"] != "layers"]
    assert Counter(one.name for one in slices) == Counter(event["name"] for event in drawn)


@given(ranks(st.floats(5e-7, 1e-2)))
def test_every_arrow_is_drawn_where_slices_last_longer_than_rounding(what: list[Slice | Reading]) -> None:
    found = events([what])
    waits = sum(len(one.waits_for) for one in what if isinstance(one, Slice))
    assert Counter(e["ph"] for e in found if e["ph"] in "sf") == Counter({"s": waits, "f": waits})


@given(ranks())
def test_times_are_off_by_less_than_a_microsecond(what: list[Slice | Reading]) -> None:
    slices = [one for one in what if isinstance(one, Slice)]
    for one in slices:
        named = [Slice(row=one.row, name="it", start=one.start, seconds=one.seconds)]
        others = [
            Slice(row=o.row, name="other", start=o.start, seconds=o.seconds) for o in slices if o is not one
        ]
        (it,) = [event for event in events([others + named]) if event["name"] == "it"]
        assert it["ts"] == pytest.approx(one.start * 1e6, abs=0.25)
        assert it["ts"] + it["dur"] == pytest.approx((one.start + one.seconds) * 1e6, abs=0.5)


@given(st.lists(st.floats(0.5e-6, 1e-3), min_size=1, max_size=40))
def test_slices_that_follow_each_other_stay_on_one_row_whatever_sums_are_rounded_to(
    seconds: list[float],
) -> None:
    starts = np.cumsum([0.0, *seconds])[:-1]  # where floats put it: rarely the sum of start and seconds
    what = [
        Slice(row=COMPUTE, name="k", start=float(t), seconds=s) for t, s in zip(starts, seconds, strict=True)
    ]
    found = events([what])
    assert rows(found).keys() == {("rank 0", COMPUTE)}
    assert violations(json.dumps({"traceEvents": found})) == []


def test_an_overlap_that_only_rounding_makes_is_none() -> None:
    edge = 17 / 16  # between two ticks
    what = [
        slice_on(COMPUTE, 0, 0, "a"),
        slice_on(COMPUTE, 0, edge * (1 + 1e-12), "b"),
        slice_on(COMPUTE, edge * (1 - 1e-12), 1, "c"),
    ]
    assert times(rows(events([what]))["rank 0", COMPUTE]) == [
        ("a", 0, 1 / 8),
        ("b", 1 / 8, 9 / 8),
        ("c", 9 / 8, 2),
    ]


def test_times_are_whole_nanoseconds_and_exact_floats() -> None:
    found = events([[slice_on(COMPUTE, 1.001, 2.003), slice_on(COMPUTE, 1e9 / 3, 1.1)]])
    for event in found:
        for time in (event.get("ts", 0), event.get("dur", 0)):
            assert time * 1000 == int(time * 1000)
            assert float(time * 8).is_integer()


def test_overlapping_collectives_go_to_further_rows() -> None:
    what = [
        slice_on(COMMUNICATION, start, 10, name) for start, name in ((0, "a"), (5, "b"), (10, "c"), (12, "d"))
    ]
    found = rows(events([what]))
    assert times(found["rank 0", "communication"]) == [("a", 0, 10), ("c", 10, 20)]
    assert times(found["rank 0", "communication 2"]) == [("b", 5, 15)]
    assert times(found["rank 0", "communication 3"]) == [("d", 12, 22)]


def test_rows_stand_in_one_order_in_all_processes() -> None:
    what = [
        slice_on("copies", 0, 1),
        slice_on(COMMUNICATION, 1, 2),
        slice_on(COMMUNICATION, 2, 2),
        slice_on(COMPUTE, 3, 1),
    ]
    found = events([what, list(reversed(what))], names=["measured", "predicted"])
    names = [e["args"]["name"] for e in found if e["name"] == "thread_name"]
    places = [e["args"]["sort_index"] for e in found if e["name"] == "thread_sort_index"]
    tids = [e["tid"] for e in found if e["name"] == "thread_name"]
    assert len({0, 1, *tids}) == 2 + len(tids)  # a thread that has its process's number is its main thread
    assert names == ["layers", "compute", "communication", "communication 2", "copies"] * 2
    assert places == [0, 1, 2, 3, 4] * 2
    assert [e["args"]["name"] for e in found if e["name"] == "process_name"] == ["measured", "predicted"]


def test_layers_lie_around_their_parts_within_their_direction() -> None:
    what = [
        slice_on(COMPUTE, 0, 2, layer="blocks.0.norm", phase="forward"),
        slice_on(COMPUTE, 3, 2, layer="blocks.0.mlp.up", phase="forward"),
        slice_on(COMPUTE, 5, 2, layer="blocks.0.mlp", phase="forward"),
        slice_on(COMMUNICATION, 7, 3, layer="blocks.0.mlp.down", phase="forward"),
        slice_on(COMPUTE, 10, 1, layer="blocks.0.mlp.down", phase="backward"),
        slice_on(COMPUTE, 12, 1),
    ]
    assert times(rows(events([what]))["rank 0", "layers"]) == [
        ("forward", 0, 10),
        ("blocks.0", 0, 10),
        ("norm", 0, 2),
        ("mlp", 3, 10),
        ("up", 3, 5),
        ("down", 7, 10),
        ("backward", 10, 11),
        ("blocks.0", 10, 11),
        ("mlp", 10, 11),
        ("down", 10, 11),
    ]


def test_a_collective_behind_a_kernel_does_not_tear_its_layer_apart() -> None:
    what = [
        slice_on(COMPUTE, 0, 4, layer="b", phase="backward"),
        slice_on(COMPUTE, 4, 8, layer="a", phase="backward"),
        slice_on(COMMUNICATION, 5, 10, layer="b", phase="backward"),
        slice_on(COMPUTE, 12, 2, layer="a", phase="backward"),
    ]
    layers = times(rows(events([what]))["rank 0", "layers"])
    assert layers == [("backward", 0, 15), ("b", 0, 4), ("a", 4, 14)]


def test_a_layer_does_not_wait_for_what_it_left_running() -> None:
    what = [
        slice_on(COMMUNICATION, 0, 9, layer="b", phase="backward"),
        slice_on(COMPUTE, 1, 2, layer="a", phase="backward"),
    ]
    layers = times(rows(events([what]))["rank 0", "layers"])
    assert layers == [("backward", 0, 9), ("b", 0, 1), ("a", 1, 3)]


def test_an_arrow_goes_from_a_collective_to_what_waited_for_it() -> None:
    what = [
        slice_on(COMMUNICATION, 0, 5, id="sum"),
        slice_on(COMPUTE, 2, 1),
        slice_on(COMPUTE, 7, 3, waits_for=("sum",)),
    ]
    found = events([what, what])
    tids = {e["args"]["name"]: e["tid"] for e in found if e["name"] == "thread_name" and e["pid"] == 1}
    tail, head = [e for e in found if e["ph"] in "sf" and e["pid"] == 1]
    assert (tail["ph"], tail["ts"], tail["tid"]) == ("s", 5 - 1 / 8, tids[COMMUNICATION])
    assert (head["ph"], head["ts"], head["tid"], head["bp"]) == ("f", 7, tids[COMPUTE], "e")
    assert tail["id"] == head["id"]
    assert len({e["id"] for e in found if e["ph"] == "s"}) == 2


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (slice_on(COMPUTE, -1, 2), "counts from 0"),
        (slice_on(COMPUTE, math.nan, 2), "mend the times"),
        (slice_on(COMPUTE, 1, -2), "nothing ends before it begins"),
        (slice_on(COMPUTE, 1, math.inf), "mend the times"),
        (slice_on("layers", 0, 1), "pick another name"),
        (slice_on(COMPUTE, 0, 1, waits_for=(3,)), "waits for 3, and no slice of its rank has that id"),
        (Reading("saved", "bytes", 0, math.inf), "leave the reading out"),
        (Reading("saved", "bytes", -1e-3, 1), "counts from 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(what: Slice | Reading, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        events([[what]])


def test_nothing_waits_for_what_begins_after_its_own_end() -> None:
    with pytest.raises(ValueError, match="ends before that begins"):
        events([[slice_on(COMPUTE, 0, 1, waits_for=(1,)), slice_on(COMMUNICATION, 5, 1, id=1)]])


def test_every_rank_has_a_name() -> None:
    with pytest.raises(ValueError, match="1 names for 2 ranks"):
        events([[], []], names=["one"])


def test_a_file_has_no_time_unit_which_old_readers_misread(tmp_path: Path) -> None:
    write(tmp_path / "it.json", [[slice_on(COMPUTE, 0, 1, name="µ-kernel")]])
    text = (tmp_path / "it.json").read_bytes()
    assert text.isascii()
    assert json.loads(text).keys() == {"traceEvents"}


# --- the check ----------------------------------------------------------------------------------------------


def good() -> list[Event]:
    what: list[Slice | Reading] = [
        slice_on(COMMUNICATION, 0, 5, "sum", id=1),
        slice_on(COMPUTE, 5, 3, "gemm", waits_for=(1,)),
        slice_on(COMPUTE, 8, 3, "norm"),
        Reading("saved", "bytes", 1e-6, 8),
    ]
    return events([what])


def named(found: list[Event], name: str, phase: str = "XMC") -> Event:
    return next(event for event in found if event["name"] == name and event["ph"] in phase)


def arrow(found: list[Event], phase: str) -> Event:
    return next(event for event in found if event["ph"] == phase)


FAULTS: list[tuple[Callable[[list[Event]], Any], str]] = [
    (lambda e: named(e, "gemm").update(dur=3.001), "overlaps 'gemm'"),
    (lambda e: named(e, "norm").update(ts=7.0), "overlaps 'gemm'"),
    (lambda e: e.append(named(e, "gemm") | {"ts": 5.0, "dur": 4.0}), "is dropped"),  # the outer comes last
    (lambda e: named(e, "gemm").pop("ts"), "phase X has no 'ts'"),
    (lambda e: named(e, "gemm").pop("dur"), "phase X has no 'dur'"),
    (lambda e: named(e, "gemm").pop("tid"), "phase X has no 'tid'"),
    (lambda e: named(e, "gemm").pop("ph"), "its phase None is none of"),
    (lambda e: named(e, "gemm").update(ph="Q"), "its phase 'Q' is none of"),
    (lambda e: named(e, "gemm").update(ts=-1.0), "ts -1.0 is no time"),
    (lambda e: named(e, "gemm").update(ts="5"), "ts '5' is no time"),
    (lambda e: named(e, "gemm").update(dur=-0.5), "dur -0.5 is no time"),
    (lambda e: named(e, "gemm").update(ts=math.nan), "it is no JSON"),
    (lambda e: named(e, "gemm").update(args=[1]), "its args are no object"),
    (lambda e: named(e, "gemm").update(pid="zero"), "pid 'zero' is no whole number"),
    (lambda e: named(e, "saved").update(args={"bytes": "many"}), "are not numbers"),
    (lambda e: named(e, "saved").update(args={}), "are not numbers"),
    (lambda e: e.remove(arrow(e, "f")), "has 1 beginnings and 0 ends"),
    (lambda e: e.remove(arrow(e, "s")), "has 0 beginnings and 1 ends"),
    (lambda e: e.append(dict(arrow(e, "f"))), "has 1 beginnings and 2 ends"),
    (lambda e: arrow(e, "f").update(cat="other"), "has 0 beginnings and 1 ends"),
    (lambda e: arrow(e, "f").update(ts=20.0), "is in no slice"),
    (lambda e: arrow(e, "s").update(ts=5.0), "is in no slice"),  # a slice ends before its end
    (lambda e: arrow(e, "s").update(tid=99), "is in no slice"),
    (lambda e: arrow(e, "s").update(ts=9.0, tid=named(e, "gemm")["tid"]), "ends before it begins"),
    (lambda e: arrow(e, "f").update(bp="n"), "binds the arrow to the next slice"),
    (lambda e: arrow(e, "f").pop("bp"), "phase f has no 'bp'"),
    (lambda e: e.remove(named(e, "process_name")), "process 0 has no process_name"),
    (lambda e: e.remove(named(e, "process_sort_index")), "process 0 has no process_sort_index"),
    (lambda e: named(e, "process_name").update(args={}), "process_name has no 'name' in its args"),
    (lambda e: e.append(named(e, "process_name")), "has 2 times a process_name"),
    (lambda e: named(e, "norm").update(tid=99), "row 99 of process 0 has no thread_name"),
    (lambda e: e.append(named(e, "norm") | {"pid": 1}), "is a row of 2 processes"),
    (lambda e: e.insert(0, 7), "event 0: it is no object"),  # type: ignore[arg-type]  # that is the fault
]  # fmt: skip


def test_the_check_is_content_with_what_is_right() -> None:
    assert violations(json.dumps({"traceEvents": good()})) == []


@pytest.mark.parametrize(("spoil", "sentence"), FAULTS)
def test_the_check_finds_each_fault(spoil: Callable[[list[Event]], Any], sentence: str) -> None:
    found = good()
    spoil(found)
    assert any(sentence in what for what in violations(json.dumps({"traceEvents": found})))


@pytest.mark.parametrize("text", ["", "[1, 2", "3", "[]", '{"events": []}', '{"traceEvents": {}}'])
def test_the_check_refuses_what_is_no_trace(text: str) -> None:
    assert len(violations(text)) == 1


def test_the_check_lets_slices_nest_and_follow() -> None:
    found = good()
    gemm = named(found, "gemm")
    found += [gemm | {"dur": 1.0}, gemm | {"dur": 1.0}, gemm | {"ts": 6.0, "dur": 2.0}]
    assert violations(json.dumps({"traceEvents": found})) == []


def test_the_check_reads_times_as_older_perfettos_cut_them() -> None:
    # 1.001 us is 1000.99… ns as a float and becomes 1000, before the end of what lasts 500 + 501 ns.
    found = good()
    named(found, "gemm").update(ts=0.5, dur=0.501)
    named(found, "norm").update(ts=1.001, dur=1.0)
    arrow(found, "f").update(ts=0.5)
    arrow(found, "s").update(ts=0.25)
    assert [what for what in violations(json.dumps({"traceEvents": found})) if "overlaps" in what]


# --- real runs ----------------------------------------------------------------------------------------------


def traced(comm: Any, passes: int = 1) -> Trace:
    """Each pass: product, sum, sum, product; the second product waits for both sums."""
    group = Group(comm)
    rng = np.random.default_rng(comm.rank)
    x, weight = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 4))
    with Trace(kernels=True) as trace, scope("mlp", "forward"):
        for _ in range(passes):
            linear(x, weight)
            group.all_reduce(x)
            handle = group.iall_reduce(x)
            handle.wait()
            linear(x, weight)
    return trace


def test_a_kernel_waits_for_the_collectives_before_it() -> None:
    for rank in from_traces([[trace] for trace in run(traced, 3, 2)]):
        slices = [one for one in rank if isinstance(one, Slice)]
        assert [one.row == COMPUTE for one in slices] == [True, False, False, True] * 2
        first, second = slices[:4], slices[4:]
        for product, one, other, waiter in (first, second):
            assert product.waits_for == ()
            assert waiter.waits_for == (one.id, other.id)
        ids = [one.id for one in slices if one.row == COMMUNICATION]
        assert len(set(ids)) == 4


@pytest.mark.parametrize("schedule", ["lockstep", "free"])
def test_ranks_are_in_a_collective_at_the_same_time(schedule: Any) -> None:
    what = from_traces([[trace] for trace in run(traced, 4, schedule=schedule)])
    found = events(what)
    assert violations(json.dumps({"traceEvents": found})) == []
    assert_same_times(found, ranks=4, number=2)


def assert_same_times(found: list[Event], *, ranks: int, number: int) -> None:
    """No rank ends a sum before every rank has begun it: if the clocks agree."""
    by_rank = collectives(found)
    assert by_rank.keys() == set(range(ranks))
    assert {len(row) for row in by_rank.values()} == {number}
    for same in zip(*by_rank.values(), strict=True):
        assert len({event["name"] for event in same}) == 1
        if same[0]["name"] == "all_reduce":
            assert max(e["ts"] for e in same) <= min(e["ts"] + e["dur"] for e in same)


def test_several_traces_of_a_rank_stand_one_after_the_other() -> None:
    def main(comm: Any) -> list[Trace]:
        return [traced(comm), traced(comm)]

    found = events(from_traces(run(main, 2)))
    assert violations(json.dumps({"traceEvents": found})) == []
    assert {len(row) for row in collectives(found).values()} == {4}
    assert sum(event["ph"] == "s" for event in found) == 2 * 4
    assert min(event["ts"] for event in found if event["ph"] == "X") < 1e5  # from the first trace's beginning


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_saved_bytes_over_time_reach_the_peak_and_end_at_nothing(sequence_parallel: bool) -> None:
    config = DemoConfig(ranks=2, seq=8, hidden=16, heads=2, batch=1, sequence_parallel=sequence_parallel)
    for report in run(on_rank, 2, config, True):
        readings = [one for one in from_trace(report.trace) if isinstance(one, Reading)]
        assert max(one.value for one in readings) == report.trace.peak_saved_bytes
        assert readings[-1].value == 0
        moments = [one.start for one in readings]
        assert moments == sorted(set(moments))


def test_a_dry_run_has_no_times_to_show() -> None:
    trace = Trace(kernels=True)
    trace.kernels.append(KernelEvent("add", ((2,),), ((2,),), "float32", 2, 8, 8, "", "", 1))
    with pytest.raises(ValueError, match="takes no time"):
        from_trace(trace)


# --- the commands -------------------------------------------------------------------------------------------

SMALL = ["demo", "--batch", "1", "--seq", "24", "--hidden", "48"]


def command(folder: Path, *arguments: str, ranks: int | None = None) -> subprocess.CompletedProcess[str]:
    there = [sys.executable, "-m", "tpsim", *arguments]
    if ranks is not None:
        there = [find_mpiexec(), "-n", str(ranks), *there]
    return subprocess.run(there, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


# With sequence parallelism: f and g are 4 collectives forward and 4 backward, the weights' gradients gather
# the inputs of the two column-parallel layers again, and the norms' and biases' are summed at once.
@pytest.mark.parametrize(
    ("more", "ranks", "number"),
    [
        pytest.param(["--ranks", "4"], None, 4),
        pytest.param(["--sp"], None, 11),
        pytest.param(["--sp"], 2, 11, marks=needs_mpi),
        pytest.param([], 2, 4, marks=needs_mpi),
    ],
)
def test_demo_writes_a_trace_of_all_ranks(
    tmp_path: Path, more: list[str], ranks: int | None, number: int
) -> None:
    done = command(tmp_path, *SMALL, *more, "--json", "--trace", "trace.json", ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["equal"]
    text = (tmp_path / "trace.json").read_text()
    assert violations(text) == []
    found = json.loads(text)["traceEvents"]
    assert_same_times(found, ranks=ranks or 4, number=number)
    for name in {name for name, _ in rows(found)}:
        assert {e["name"] for e in rows(found)[name, COMPUTE]} >= {"linear", "layer_norm_grad"}
        assert {e["name"] for e in rows(found)[name, "layers"]} >= {"forward", "backward", "qkv"}
    assert any(event["ph"] == "s" for event in found)


def test_demo_says_what_it_wrote(tmp_path: Path) -> None:
    done = command(tmp_path, *SMALL, "--trace", "trace.json")
    assert "written: trace.json" in done.stdout


@pytest.mark.parametrize(
    ("path", "sentence"), [(".", "is a folder; pass the name"), ("no/trace.json", "a folder that is there")]
)
def test_a_trace_that_cannot_be_written_is_refused_at_once(tmp_path: Path, path: str, sentence: str) -> None:
    done = command(tmp_path, *SMALL, "--trace", path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""


# --- steps of a training run --------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "shown"), [(range(9), SHOWN), (range(7, 9), 1), (range(1), 1)])
def test_a_few_steps_after_the_first_are_shown(tmp_path: Path, steps: range, shown: int) -> None:
    path = tmp_path / "trace.json"

    def main(comm: Any) -> None:
        mesh = Mesh(comm, 2)
        traces = StepTraces(comm, mesh, steps, str(path))
        for step in steps:
            with traces.of(step) or Trace():
                mesh.tp.all_reduce(np.ones(step + 1))
        traces.finish()

    run(main, 2)
    assert violations(path.read_text()) == []
    for row in collectives(json.loads(path.read_text())["traceEvents"]).values():
        first = steps[0] + (len(steps) > 1)
        assert [event["args"]["shape"] for event in row] == [
            f"[{s + 1}]" for s in range(first, first + shown)
        ]


def test_no_steps_are_recorded_without_a_file() -> None:
    def main(comm: Any) -> list[Trace | None]:
        traces = StepTraces(comm, Mesh(comm, 2), range(5))
        traces.finish()
        return [traces.of(step) for step in range(5)]

    assert run(main, 2) == [[None] * 5] * 2
