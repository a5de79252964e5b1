"""The trace: events, scopes, and what saved tensors keep alive."""

import io
import json
import mmap
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from tpsim.comm import Group, run
from tpsim.trace import ParameterRecord, Trace, current, current_scope, scope
from tpsim.trace.tables import collectives_table, human_bytes

Array: TypeAlias = NDArray[Any]


def traced(comm: Any) -> Trace:
    """Two collectives in a forward pass, one in a backward."""
    group = Group(comm, name="mine")
    with Trace() as trace:
        with scope("block", "forward"):
            with scope("mlp"):
                group.all_reduce(np.ones((2, 4), "f4"))
                group.all_reduce(np.ones((2, 4), "f4"))
            trace.save("x", np.ones(3), "activation")
            trace.save("rstd", np.ones(2, "f4"), "statistic")
        with scope("block", "backward"):
            group.all_gather(np.ones(2))
        trace.parameters.append(ParameterRecord("w", (4, 4), (4, 2), "float32", 32, 32, "columns"))
    return trace


# -- what is recorded, and where -----------------------------------------------------------------------------


def test_nothing_is_recorded_outside_a_trace() -> None:
    def main(comm: Any) -> Any:
        group = Group(comm)
        with Trace() as trace:
            pass
        group.all_reduce(np.ones(3))
        assert current() is None
        return len(trace.collectives)

    assert run(main, 2) == [0, 0]


def test_the_innermost_trace_records() -> None:
    def main(comm: Any) -> Any:
        group = Group(comm)
        with Trace() as outer:
            group.all_reduce(np.ones(1))
            with Trace() as inner:
                assert current() is inner
                group.all_reduce(np.ones(1))
                group.all_gather(np.ones(1))
            with outer:  # again
                group.barrier()
            assert current() is outer
            group.broadcast(np.ones(1))
        assert current() is None
        return [[event.operation for event in trace.collectives] for trace in (outer, inner)]

    assert run(main, 2)[1] == [["all_reduce", "barrier", "broadcast"], ["all_reduce", "all_gather"]]


@pytest.mark.parametrize("schedule", ["lockstep", "free"])
def test_each_rank_records_its_own(schedule: Any) -> None:
    traces = run(traced, 4, schedule=schedule)
    for rank, trace in enumerate(traces):
        assert [event.rank for event in trace.collectives] == [rank] * 3
        first, _, last = trace.collectives
        assert (first.operation, first.algorithm, first.group, first.ranks) == (
            "all_reduce",
            "ring",
            "mine",
            4,
        )
        assert (first.shape, first.dtype, first.bytes_sent, first.messages) == ((2, 4), "float32", 48, 6)
        assert (first.layer, first.phase, first.counted) == ("block.mlp", "forward", False)
        assert (last.layer, last.phase, last.bytes_sent) == ("block", "backward", 48)
        assert 0 <= first.start <= first.start + first.seconds <= last.start + last.seconds


def test_select_takes_fields_and_layer_prefixes() -> None:
    trace = run(traced, 2)[0]
    assert len(trace.select()) == 3
    assert len(trace.select(operation="all_reduce")) == 2
    assert len(trace.select(layer="block")) == 3
    assert len(trace.select(layer="block.mlp", phase="forward")) == 2
    assert trace.select(layer="bl") == []
    assert sum(event.bytes_sent for event in trace.select(phase="backward")) == 16
    assert sum(event.messages for event in trace.collectives) == 2 + 2 + 1


def test_scopes_nest_and_end_with_their_block() -> None:
    with scope("a", "forward") as outer, scope("b") as inner, scope("") as same:
        assert (outer.path, inner.path, inner.phase) == ("a", "a.b", "forward")
        assert same == inner == current_scope()
        with suppress(ZeroDivisionError), scope("c", "backward") as innermost:
            assert innermost == ("a.b.c", "backward")
            raise ZeroDivisionError
        assert current_scope() == inner
    assert current_scope() == ("", "")


# -- what saved tensors keep alive ---------------------------------------------------------------------------


def cost(*arrays: Array) -> list[int]:
    """Save, and return what each adds; then release, which must bring everything back."""
    trace = Trace()
    for array in arrays:
        trace.save("x", array, "activation")
    costs = [tensor.nbytes for tensor in trace.saved]
    assert trace.saved_bytes == trace.peak_saved_bytes == sum(costs)
    for array in arrays[::-1]:
        assert trace.saved_bytes > 0 or not sum(costs)
        trace.release(array)
    assert trace.saved_bytes == 0
    return costs


def test_one_buffer_is_charged_once() -> None:
    x = np.zeros((4, 6))
    assert cost(x, x) == [192, 0]
    assert cost(x, x[1:]) == [192, 0]
    assert cost(x, x.reshape(6, 4), x.T, x[::-1], x.ravel(), x.view("i8")) == [192, 0, 0, 0, 0, 0]
    assert cost(x, x.copy()) == [192, 192]


def test_a_view_is_charged_its_own_bytes_however_it_is_looked_at() -> None:
    x = np.zeros((4, 6))
    half = x[:2]
    assert cost(half, half, half.T, half.reshape(-1), half[::-1], half[:, None]) == [96, 0, 0, 0, 0, 0]
    assert cost(half, x) == [96, 96]


def test_disjoint_views_are_charged_their_sum_and_overlapping_ones_at_most_the_buffer() -> None:
    x = np.zeros((4, 6))
    assert cost(x[:2], x[2:]) == [96, 96]
    assert cost(x[:, :3], x[:, 3:]) == [96, 96]  # interleaved in memory
    assert sum(cost(x[:3], x[1:], x[2:])) == 192
    assert cost(np.broadcast_to(np.zeros(2), (50, 2))) == [16]
    q, k, v = np.split(np.zeros((5, 9)), 3, axis=1)
    assert cost(q, k, v) == [120, 120, 120]


def test_memory_that_numpy_does_not_own_is_charged_once_too(tmp_path: Path) -> None:
    raw = bytes(64)
    assert cost(np.frombuffer(raw), np.frombuffer(raw), np.frombuffer(raw, "f4")) == [64, 0, 0]
    assert cost(np.frombuffer(raw, offset=32), np.frombuffer(raw, count=4), np.frombuffer(raw)) == [32, 32, 0]
    assert cost(np.asarray(memoryview(bytearray(raw))), np.zeros(0)) == [64, 0]
    file = tmp_path / "weights"
    file.write_bytes(raw)
    mapped = np.memmap(file, "f8", "r")
    assert cost(mapped, mapped[2:], mapped.reshape(2, 4)) == [64, 0, 0]
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        arrays = [np.frombuffer(memory, count=4), np.frombuffer(memory, offset=32)]
        assert cost(*arrays) == [32, 32]
        del arrays


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(1, 8)), min_size=1, max_size=12),
    st.randoms(),
)
@settings(deadline=None, max_examples=60)
def test_the_ledger_returns_to_nothing_and_never_exceeds_the_buffers(views: Any, random: Any) -> None:
    buffers = [np.zeros(8) for _ in range(4)]
    arrays = [buffers[which][start : start + length] for which, start, length in views]
    used = {which for which, _, _ in views}
    trace, peak = Trace(), 0
    for array in arrays:
        before = trace.saved_bytes
        trace.save("x", array, "activation")
        peak = max(peak, trace.saved_bytes)
        assert 0 <= trace.saved_bytes - before <= array.nbytes
    assert max(array.nbytes for array in arrays) <= trace.saved_bytes <= 64 * len(used)
    assert trace.peak_saved_bytes == peak
    random.shuffle(arrays)
    for array in arrays:
        before = trace.saved_bytes
        trace.release(array)
        assert before - array.nbytes <= trace.saved_bytes <= before
    assert trace.saved_bytes == 0
    assert trace.peak_saved_bytes == peak


def test_an_address_that_is_used_again_is_another_buffer() -> None:
    trace = Trace()
    for released in (True, False):
        addresses = set()
        for _ in range(20):
            x = np.zeros(1000)  # freed each time round, so that the next one is likely to lie there
            addresses.add(x.ctypes.data)
            trace.save("x", x, "activation")
            assert trace.saved[-1].nbytes == 8000
            assert trace.saved_bytes == 8000 or not released
            if released:
                trace.release(x)
                assert trace.saved_bytes == 0
            del x
        assert len(addresses) < 20, "no address was used again: the test shows nothing"
        assert trace.saved_bytes <= 8000 * len(addresses)


def test_letting_go_of_what_was_not_kept_changes_nothing() -> None:
    trace, x = Trace(), np.zeros(4)
    trace.release(x)
    trace.save("x", x[:2], "activation")
    trace.release(x)
    trace.release(np.zeros(4))
    assert trace.saved_bytes == 16


def test_saved_bytes_are_told_by_layer_and_kind() -> None:
    with Trace() as trace:
        for name in ("a", "b", "a"):
            with scope("block", "forward"), scope(name):
                trace.save("x", np.zeros(2), "activation")
                trace.save("rstd", np.zeros(1, "f4"), "statistic")
    assert list(trace.saved_by_layer().items()) == [("block.a", 32), ("block.b", 16)]
    assert trace.saved_by_layer("statistic") == {"block.a": 8, "block.b": 4}
    first = trace.saved[0]
    assert (first.layer, first.name, first.shape, first.dtype, first.nbytes) == (
        "block.a",
        "x",
        (2,),
        "float64",
        16,
    )


# -- ways out ------------------------------------------------------------------------------------------------


def test_json_holds_every_record() -> None:
    trace = run(traced, 3)[1]
    told = json.loads(trace.to_json())
    assert told == trace.to_dict() == json.loads(trace.to_json(indent=2))
    assert [event["operation"] for event in told["collectives"]] == ["all_reduce", "all_reduce", "all_gather"]
    assert told["collectives"][0]["shape"] == [2, 4]
    assert told["saved"][0] == {
        "layer": "block",
        "name": "x",
        "shape": [3],
        "dtype": "float64",
        "nbytes": 24,
        "kind": "activation",
        "born": 3,  # after two collectives
        "died": None,
    }
    assert told["parameters"][0]["whole_shape"] == [4, 4]
    assert told["peak_saved_bytes"] == 32


def test_a_trace_travels_by_pickle_and_goes_on_recording() -> None:
    trace = run(traced, 2)[0]
    with trace:  # even while it records
        copy: Trace = pickle.loads(pickle.dumps(trace))
    assert copy.to_dict() == trace.to_dict()
    with copy:
        assert current() is copy
        copy.save("y", np.zeros(1), "activation")
    assert current() is None
    assert len(copy.saved) == len(trace.saved) + 1


def test_the_table_shows_a_row_for_each_kind_of_call() -> None:
    traces = run(traced, 2)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(traces[0].table())
    console.print(collectives_table(traces))
    text = console.export_text()
    one, both = text.split("bytes sent")[1:]
    rows = [line for line in one.splitlines() if "all_" in line]
    assert len(rows) == 2
    for word in ("forward", "block.mlp", "all_reduce", "2 × 4", " 2 ", "64 B"):
        assert word in rows[0]
    for word in ("backward", "all_gather", " 1 ", "16 B"):
        assert word in rows[1]
    assert "(ring, group mine)" in one.splitlines()[0]
    assert "rank 1" in both
    assert both.count("64 B") == 2


def test_bytes_are_written_with_binary_units() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1024, 1536, 3 << 20, 5 << 30, 7 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 GiB",
        "7.0 TiB",
    ]


def test_a_trace_around_a_run_does_not_mix_up_its_ranks() -> None:
    with Trace() as around, scope("outside"):
        inside = run(traced, 2)
    assert around.collectives == []
    assert len(inside[1].collectives) == 3
    assert all(not event.layer.startswith("outside") for event in inside[1].collectives)


def test_the_table_of_one_trace_names_its_rank() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(run(traced, 2)[1].table())
    assert "rank 1" in console.export_text()
