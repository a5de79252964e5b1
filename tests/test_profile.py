"""Where the time of a step goes, on made-up clocks and on real ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpsim import Trace, run
from tpsim.cli.profile_table import profile_table
from tpsim.trace import CollectiveEvent, KernelEvent
from tpsim.trace.profile import COLLECTIVES, GEMM, KERNELS, KINDS, PYTHON, WAITING, Profile, profile
from tpsim.train import Corpus, TrainConfig, train

# What a rank does one after another: Python, then a kernel (with FLOPs of products, or none).
work = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0, 10])), max_size=5)


def kernel(start: float, seconds: float, flops: int, order: int) -> KernelEvent:
    return KernelEvent(
        "k", (), (), "float32", flops, 0, 0, "a.0.b", "forward", order, start, seconds, {}, flops
    )


def all_reduce(
    rank: int, ranks: int, start: float, seconds: float, order: int, begun: int
) -> CollectiveEvent:
    return CollectiveEvent(
        "all_reduce", "ring", "tp", ranks, rank, (1,), "float32", 4, 1, True, "a.1.c", "forward", start,
        seconds, begun, order,
    )  # fmt: skip


def everybody(event: CollectiveEvent, rank: int) -> Sequence[int]:
    return range(event.ranks)


def recorded(kernels: Sequence[KernelEvent], collectives: Sequence[CollectiveEvent], end: float) -> Trace:
    trace = Trace(kernels=True)
    trace.began, trace.seconds = 100.0, end
    trace.kernels, trace.collectives = list(kernels), list(collectives)
    return trace


@given(st.lists(work, min_size=1, max_size=3), st.floats(0, 1))
def test_work_then_a_collective_then_the_end(ranks: list[Any], sent: float) -> None:
    """Every rank works, all meet, and all leave `sent` seconds after the last has come."""
    traces, python, gemm, other, arrivals = [], 0.0, 0.0, 0.0, []
    kernels: list[list[KernelEvent]] = []
    for steps in ranks:
        now, own = 0.0, []
        for order, (pause, seconds, flops) in enumerate(steps):
            own.append(kernel(now + pause, seconds, flops, order))
            now += pause + seconds
            python += pause
            gemm += seconds if flops else 0
            other += 0 if flops else seconds
        kernels.append(own)
        arrivals.append(now)
    last = max(arrivals)
    for rank, (own, came) in enumerate(zip(kernels, arrivals, strict=True)):
        event = all_reduce(rank, len(ranks), came, last - came + sent, len(own) + 1, len(own) + 1)
        traces.append([recorded(own, [event], last + sent + 0.25)])
    found = profile(traces, everybody)
    count = len(ranks)
    waited = sum(last - came for came in arrivals)
    for kind, expected in {
        GEMM: gemm,
        KERNELS: other,
        COLLECTIVES: count * sent,
        WAITING: waited,
        PYTHON: python + count * 0.25,
    }.items():
        assert found.of(kind) == pytest.approx(expected / count, abs=1e-9)
    assert found.seconds == pytest.approx(last + sent + 0.25)
    assert {row.layer for row in found.rows} <= {"a.*.b", "a.*.c"}


def test_a_collective_behind_kernels_counts_only_what_they_leave_of_it() -> None:
    events = [kernel(1.0, 2.0, 10, 2)]
    handle = all_reduce(0, 1, 0.5, 3.5, order=3, begun=1)  # from 0.5 to 4, the kernel from 1 to 3
    found = profile([[recorded(events, [handle], 4.0)]], everybody)
    assert {kind: found.of(kind) for kind in KINDS} == pytest.approx(
        {GEMM: 2.0, KERNELS: 0.0, COLLECTIVES: 1.0, WAITING: 0.0, PYTHON: 1.0}
    )


def test_a_training_runs_profile_adds_up_to_its_steps() -> None:
    config = TrainConfig(model="tiny-gpt", tp=2, dp=2, steps=4, batch=4, seq=16)
    text = np.arange(2000, dtype=np.uint8) % 26 + 97
    corpus = Corpus("made up", text, text[:200])
    found: list[Profile] = []
    run(train, 4, config, corpus, None, None, found.append, schedule="free")
    (look,) = found
    assert (look.ranks, look.steps) == (4, 3)
    assert look.seconds == pytest.approx(sum(look.of(kind) for kind in KINDS))
    layers = {row.layer for row in look.rows}
    assert {"blocks.*.attention", "blocks.*.mlp", "adamw", "head"} <= layers
    assert all(seconds >= 0 for row in look.rows for seconds in row.seconds.values())
    assert look.of(GEMM) > 0
    assert profile_table(look, peak=1e11).row_count > 5
