"""A layer by itself: what it runs, and how the number of repetitions tells in its clock."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.cost.hardware import load
from tpsim.cost.timeline import Timeline
from tpsim.models.config import gpt
from tpsim.studies.block import block
from tpsim.studies.dry_run import Plan
from tpsim.studies.estimate import Question, answer_layer

H200 = load("h200")
CONFIG = gpt("drawn", 3, 2048, 16, vocab=64, max_seq=2048)


def timed(tp: int = 1, seq: int = 2048, **options: Any) -> Timeline:
    sp, keep = options.pop("sequence_parallel", False), options.pop("keep_gathered", False)
    plan = Plan(config=CONFIG, tp=tp, seq=seq, sequence_parallel=sp, keep_gathered=keep)
    return block(plan, H200, **options)


@settings(max_examples=10, deadline=None)
@given(
    tp=st.sampled_from([2, 4]),
    sequence_parallel=st.booleans(),
    backward=st.booleans(),
    host=st.sampled_from(["eager", "graph"]),
)
def test_a_share_alone_runs_the_same_kernels_without_communicating(
    tp: int, sequence_parallel: bool, backward: bool, host: Any
) -> None:
    options: dict[str, Any] = {"sequence_parallel": sequence_parallel, "backward": backward, "host": host}
    together, alone = timed(tp, **options), timed(tp, communicate=False, **options)
    assert [n.work for n in alone.launches] == [n.work for n in together.launches if n.stream == "compute"]
    assert alone.exposed == 0
    assert alone.host_seconds < together.host_seconds or host == "graph"
    assert alone.seconds < together.seconds


def test_forward_alone_has_no_backward_and_is_not_recorded() -> None:
    forward, both = timed(backward=False), timed()
    assert {launch.phase for launch in forward.launches} == {"forward"}
    recorded = both.launches[: len(forward.launches)]
    assert [launch.work for launch in recorded] == [launch.work for launch in forward.launches]
    assert forward.host_seconds < both.host_seconds


def test_few_repetitions_are_at_boost_and_many_are_as_hot_as_training() -> None:
    runs = [timed(repeat=repeat) for repeat in (10, 100, 1000, None)]
    assert runs[0].heat == 0
    assert [run.seconds for run in runs] == sorted({run.seconds for run in runs})
    assert timed(repeat=10**6).seconds == pytest.approx(runs[-1].seconds, rel=1e-3)


def test_keeping_what_was_gathered_saves_two_gathers_of_six_collectives() -> None:
    again, kept = (timed(2, sequence_parallel=True, keep_gathered=keep) for keep in (False, True))

    def count(run: Timeline) -> list[int]:
        backward = [n for n in run.launches if n.stream == "communication" and n.phase == "backward"]
        return [len(run.launches), len(backward)]

    assert [a - b for a, b in zip(count(again), count(kept), strict=True)] == [2, 2]
    assert count(again)[1] == 6


@settings(max_examples=15)
@given(st.sampled_from([1, 2, 4]), st.sampled_from([128, 512, 2048]), st.booleans())
def test_a_share_alone_takes_no_longer_than_with_its_messages(ranks: int, seq: int, sp: bool) -> None:
    question = Question(model="gpt2-medium", ranks=[ranks], sequence_parallel=sp, batch=1, seq=min(seq, 1024))
    [row] = answer_layer(question)
    assert row.ranks == ranks
    assert row.shard_forward <= row.forward * (1 + 1e-9)
    assert row.shard_forward_backward <= row.forward_backward * (1 + 1e-9)
    assert row.forward < row.forward_backward
    assert sum(row.by_kind.values()) == pytest.approx(row.forward_backward)
    if ranks == 1:
        assert row.exposed == 0
        assert row.shard_forward_backward == pytest.approx(row.forward_backward)


@pytest.mark.parametrize(
    ("question", "repeat", "sentence"),
    [
        (Question(model="gpt2", ranks=[1]), 0, "repeat 0 runs nothing; pick 1 or more"),
        (Question(model="gpt2", ranks=[5]), None, "heads 12 is not divisible by 5 ranks"),
        (Question(model="gpt2", ranks=[1], host="fast"), None, "host 'fast' is not known"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(question: Question, repeat: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        answer_layer(question, repeat)
