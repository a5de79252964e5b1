"""The demo study: equal to the reference, at the cost that the formulas say."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tpsim
from tpsim.studies.demo import DemoConfig, DemoResult, compare, on_rank

SMALL = DemoConfig(ranks=1, batch=1, seq=24, hidden=48, heads=24)


def demo(config: DemoConfig) -> DemoResult:
    return compare(config, "virtual", tpsim.run(on_rank, config.ranks, config))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_demo_equals_the_reference_at_the_predicted_cost(ranks: int, sequence_parallel: bool) -> None:
    result = demo(replace(SMALL, ranks=ranks, sequence_parallel=sequence_parallel))
    assert set(result.differences) >= {"y", "dx", "attention.qkv.weight", "mlp.down.bias"}
    assert len(result.differences) == 14
    assert all(d.relative <= 1e-10 for d in result.differences.values())
    assert result.equal
    assert result.sent_as_predicted
    assert result.saved_as_predicted


@settings(max_examples=10)
@given(
    ranks=st.sampled_from([1, 2, 3, 4]),
    head_size=st.integers(1, 5),
    batch=st.integers(1, 3),
    blocks=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "float64"]),
    algorithm=st.sampled_from(["ring", "recursive_doubling", "rabenseifner", "tree", "rank_order"]),
    sequence_parallel=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_demo_equals_the_reference_at_the_predicted_cost(
    ranks: int, head_size: int, batch: int, blocks: int, **options: Any
) -> None:
    config = DemoConfig(
        ranks=ranks, batch=batch, seq=ranks * blocks, hidden=12 * head_size, heads=12, **options
    )
    result = demo(config)
    assert result.equal
    assert result.sent_as_predicted
    assert result.saved_as_predicted


def counts(result: DemoResult) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = result.to_dict()["collective_counts"]
    return counted


def test_a_block_has_two_all_reduces_each_way() -> None:
    assert counts(demo(replace(SMALL, ranks=4))) == {
        "forward": {"all_reduce": 2},
        "backward": {"all_reduce": 2},
    }


def test_sequence_parallelism_sends_the_same_bytes_when_gathered_inputs_are_kept() -> None:
    plain = demo(replace(SMALL, ranks=4))
    kept = demo(replace(SMALL, ranks=4, sequence_parallel=True, keep_gathered=True))
    assert counts(kept) == {
        "forward": {"all_gather": 2, "reduce_scatter": 2},
        "backward": {"all_gather": 2, "reduce_scatter": 2},
        "replica_gradients": {"all_reduce": 1},
    }
    assert kept.to_dict()["bytes_sent_by_block"] == plain.to_dict()["bytes_sent_by_block"]


def test_sequence_parallelism_gathers_twice_more_in_backward_when_it_keeps_the_local_part() -> None:
    kept = demo(replace(SMALL, ranks=4, sequence_parallel=True, keep_gathered=True))
    local = demo(replace(SMALL, ranks=4, sequence_parallel=True))
    assert counts(local)["backward"] == {"all_gather": 4, "reduce_scatter": 2}
    assert counts(local)["forward"] == counts(kept)["forward"]
    # 32sbh/t + 2as²b/t bytes at 2 bytes an element: everything is cut.
    s, b, h, a, t = 24, 1, 48, 24, 4
    assert local.activation_bytes == [(32 * s * b * h + 2 * a * s * s * b) // t * 4] * t


def test_saved_bytes_are_the_papers() -> None:
    # Korthikanti et al. (2022), table 2 without dropout, at 8 bytes an element: 4 times the 2-byte formula.
    s, b, h, a, t = 24, 1, 48, 24, 3
    result = demo(replace(SMALL, ranks=t))
    assert result.activation_bytes == [(8 * s * b * h + (24 * s * b * h + 2 * a * s * s * b) // t) * 4] * t


def test_bytes_are_counted_message_by_message() -> None:
    for trace in demo(replace(SMALL, ranks=3)).traces:
        assert all(event.counted for event in trace.collectives)


def test_result_travels_as_json() -> None:
    data = json.loads(json.dumps(demo(replace(SMALL, ranks=2)).to_dict()))
    assert data["equal"] is True
    assert data["bytes_sent"] == [4 * 24 * 48 * 8] * 2  # ring among 2: each rank sends one whole tensor
    assert data["shards"]["attention.qkv.weight"]["ranks"] == [[48, 72], [48, 72]]


def test_a_planted_difference_is_noticed() -> None:
    config = replace(SMALL, ranks=2)
    reports = tpsim.run(on_rank, 2, config)
    reports[0].y[0, 0, 0] += 1e-6 * np.abs(reports[0].y).max()
    result = compare(config, "virtual", reports)
    assert not result.equal
    assert [name for name, d in result.differences.items() if d.relative > 1e-10] == ["y"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"ranks": 5},
            "24 heads can't be shared evenly by 5 ranks; pick ranks from 1, 2, 3, 4, 6, 8, 12, 24",
        ),
        ({"ranks": 0}, "ranks 0 makes no block; pick 1 or more"),
        ({"hidden": 3}, "hidden 3 makes no block; pick 4 or more"),
        ({"seed": -1}, "seed -1 can't seed a generator; pick 0 or more"),
        ({"hidden": 50}, "hidden 50 is not divisible by 24 heads; pick a multiple of 24"),
        (
            {"ranks": 4, "seq": 18, "sequence_parallel": True},
            "18 can't be cut evenly among 4 ranks; pick seq",
        ),
        ({"keep_gathered": True}, "nothing is gathered without sequence parallelism"),
        ({"dtype": "int8"}, "dtype 'int8' is not known here; pick float64 or float32"),
        ({"algorithm": "star"}, "algorithm 'star' is not known; pick one of ring, "),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_remedy(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        replace(SMALL, **change)
