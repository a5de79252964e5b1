"""`verify`: what `tpsim verify` runs."""

import json
from pathlib import Path

import pytest
from hypothesis.configuration import storage_directory

from tpsim.lab.zoo import ZOO
from tpsim.studies.verify import CHECKS, verify

# What each bug is caught by, first of all checks, and where the smallest case has its ranks.
FIRST = {
    "row-bias-on-every-rank": "RowParallelLinear",
    "no-reduce-in-backward": "ColumnParallelLinear",
    "residual-before-reduce": "TransformerBlock",
    "gate-up-cut-at-midpoint": "MLP",
    "shards-start-alike": "ranks start as one device",
    "uneven-shards": "what can't be is refused",
    "two-shot-from-rank-zero": "collectives are exact",
    "branch-around-collective": "RowParallelLinear",
    "smoothed-by-own-words": "cross-entropy",
    "loss-of-gathered-logits": "cross-entropy",
    "averaged-reduce-scatter": "RowParallelLinear",
    "norm-counts-copies": "clips as one device",
    "pads-win": "Embedding and LMHead",
    "kv-copies-counted": "kv heads are counted once",
}


def test_good_code_passes_with_a_worst_error_for_each_tensor() -> None:
    result = verify()
    assert result.ok
    assert result.failure is None
    assert result.cases >= 190
    assert set(result.by_check) == {check.name for check in CHECKS}
    of_block = {error.tensor for error in result.worst if error.layer == "TransformerBlock"}
    assert {"y", "dx", "attention.qkv.weight", "norm1.bias", "mlp.down.weight"} <= of_block
    for error in result.worst:
        assert error.relative <= error.tolerance
        assert error.tolerance == {"float64": 1e-10, "float32": 1e-5}[error.dtype]
    by_tensor = {(error.tensor, error.dtype): error for error in result.by_tensor()}
    assert by_tensor["qkv.weight", "float64"].cases > 10
    assert by_tensor["y", "float64"].relative == max(
        error.relative for error in result.worst if (error.tensor, error.dtype) == ("y", "float64")
    )


def test_the_same_seed_draws_the_same_cases() -> None:
    first, again, other = verify(seed=3, cases=60), verify(seed=3, cases=60), verify(seed=4, cases=60)
    assert first.worst == again.worst
    assert first.worst != other.worst


def test_only_the_ranks_asked_for_are_drawn() -> None:
    result = verify(ranks=(1,), cases=60, planted=ZOO["no-reduce-in-backward"])
    assert result.ok  # it hides at one rank


@pytest.mark.parametrize("name", FIRST)
def test_a_planted_bug_fails_with_its_smallest_case(name: str) -> None:
    failure = verify(planted=ZOO[name]).failure
    assert failure is not None
    assert failure.check == FIRST[name]
    assert "(ranks=2" in failure.case
    assert failure.kind in {"Violation", "CollectiveMismatchError"}
    assert verify(cases=20).ok  # and is gone afterwards


def test_a_failure_says_what_differs() -> None:
    failure = verify(planted=ZOO["no-reduce-in-backward"]).failure
    assert failure is not None
    assert failure.case == "ColumnCase(ranks=2, out_features=2)"
    assert failure.message.startswith("t = 2: dx differs from the reference by ")
    assert failure.message.endswith(failure.case)


def test_progress_goes_from_one_to_the_total() -> None:
    seen: list[tuple[int, int, str]] = []
    verify(cases=50, progress=lambda *now: seen.append(now))
    done = [now[0] for now in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1]
    assert {now[1] for now in seen} == {seen[0][1]}


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = storage_directory(intent_to_write=False).home_directory
    verify(cases=20, planted=ZOO["row-bias-on-every-rank"])
    assert list(tmp_path.iterdir()) == []
    assert storage_directory(intent_to_write=False).home_directory == home


def test_the_result_can_be_written_as_json() -> None:
    result = verify(cases=30, planted=ZOO["row-bias-on-every-rank"])
    data = json.loads(json.dumps(result.to_dict()))
    assert data["ok"] is False
    assert data["failure"]["check"] == "RowParallelLinear"
    assert data["ranks"] == [1, 2, 3, 4, 8]


@pytest.mark.parametrize("wrong", [{"ranks": ()}, {"ranks": (0, 2)}, {"cases": 0}])
def test_what_draws_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"verify: .+; pass"):
        verify(**wrong)  # type: ignore[arg-type]
