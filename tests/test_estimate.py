"""Estimates: rows that agree with closed forms, a verdict that follows from them, tables that read well."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.cli.estimate_tables import render
from tpsim.cost.hardware import load, names
from tpsim.cost.timeline import schedule
from tpsim.models.config import gpt, llama
from tpsim.studies.costs import Costs, costs
from tpsim.studies.dry_run import Plan
from tpsim.studies.estimate import Answer, Question, answer, share
from tpsim.studies.estimate_trace import RANKS
from tpsim.studies.verdict import best_of, gigabytes, listed, verdict
from tpsim.trace.chrome_check import violations

H200 = load("h200")
SMALL = gpt("small", 2, 256, 8, vocab=512, max_seq=128)


def small(**options: Any) -> Costs:
    return costs(Plan(config=SMALL, **{"seq": 128, **options}), H200)


@pytest.fixture(scope="module")
def gpt2() -> Answer:
    return answer(Question(model="gpt2", ranks=(1, 2, 4)))


# --- rows ---------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 2]),
    sequence_parallel=st.booleans(),
    recompute=st.sampled_from(["none", "selective", "full"]),
    microbatches=st.integers(1, 3),
)
def test_a_row_agrees_with_itself(
    tp: int, dp: int, sequence_parallel: bool, recompute: Any, microbatches: int
) -> None:
    plan = Plan(config=SMALL, tp=tp, dp=dp, seq=64, sequence_parallel=sequence_parallel, recompute=recompute)
    row = costs(plan, H200, microbatches=microbatches)
    passes = row.timeline.seconds
    assert row.forward + row.backward == pytest.approx(passes)
    assert sum(row.by_kind.values()) == pytest.approx(passes)
    assert row.step >= (microbatches - 1) * passes + row.ending
    assert 0 <= row.exposed + row.host_bound <= row.step
    assert row.tokens_per_second == pytest.approx(64 * dp * microbatches / row.step)
    assert row.mfu == pytest.approx(row.model_flops / row.ranks / row.step / H200.peak_flops["bfloat16"])
    assert (row.collectives == 0) == (row.ranks == 1)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_flops_are_those_of_the_formula_however_often_something_runs(recompute: Any) -> None:
    h, s, V, L = SMALL.hidden, 128, SMALL.vocab, SMALL.layers
    row = small(tp=2, batch=3, recompute=recompute)
    assert row.model_flops == 72 * 3 * L * s * h**2 + 12 * 3 * L * s**2 * h + 6 * 3 * s * h * V


def test_state_has_18_bytes_a_parameter_shared_by_the_ranks() -> None:
    wide = llama("wide", 2, 512, 8, ffn=1024, vocab=1024)
    for tp in (1, 2, 4):
        kept = costs(Plan(config=wide, tp=tp, seq=64), H200).memory
        norms = 512 * 5
        whole = wide.parameter_count() - norms
        assert kept.weights + kept.gradients + kept.optimizer == 18 * (whole // tp + norms)


def test_fsdp_shares_state_and_sends_three_times_the_parameters() -> None:
    plan = share(Plan(config=SMALL, seq=128, batch=4), 4, "fsdp")
    row = costs(plan, H200)
    assert row.memory.weights == pytest.approx(2 * SMALL.parameter_count() / 4, rel=0.01)
    # Gathered twice in 2 bytes, and gradients of narrow weights are scattered in 4.
    assert row.sent_bytes == pytest.approx((2 + 2 + 4) * SMALL.parameter_count() * 3 / 4, rel=0.01)
    assert row.memory.gathered > 0


def test_what_is_launched_and_sent_grows_evenly_with_layers() -> None:
    one, two, three = (
        costs(Plan(config=replace(SMALL, layers=layers), tp=4, seq=64), H200) for layers in (2, 4, 6)
    )
    for count in (
        lambda row: len(row.timeline.launches),
        lambda row: row.collectives,
        lambda row: row.sent_bytes,
    ):
        assert count(three) - count(two) == count(two) - count(one) > 0


def test_full_recompute_takes_time_and_gives_memory() -> None:
    kept, again = small(tp=2), small(tp=2, recompute="full")
    assert again.memory.activations < kept.memory.activations
    assert again.backward > kept.backward
    assert again.forward == pytest.approx(kept.forward)


def test_overlap_exposes_less() -> None:
    wide = gpt("wide", 1, 8192, 64, vocab=512, max_seq=4096)
    exposed = [
        costs(
            Plan(config=wide, tp=8, seq=4096, sequence_parallel=True, overlap=overlap), H200, host="graph"
        ).exposed
        for overlap in ("none", "dw", "decomposed")
    ]
    assert exposed == sorted(exposed, reverse=True)
    assert len(set(exposed)) == 3


def test_data_parallel_replicas_work_on_their_own_sequences() -> None:
    alone, two = small(tp=2), small(tp=2, dp=2)
    assert two.model_flops == 2 * alone.model_flops
    assert two.memory == alone.memory
    assert two.step > alone.step  # gradients are summed


# --- the verdict --------------------------------------------------------------------------------------------


def test_the_verdict_is_about_the_fastest_that_fits(gpt2: Answer) -> None:
    assert gpt2.chosen is max(gpt2.rows, key=lambda row: row.tokens_per_second / row.ranks)
    assert gpt2.verdict.startswith(f"Choose t = {gpt2.chosen.ranks}: ")
    for row in gpt2.rows[1:]:
        less = 1 - row.tokens_per_second_per_device / gpt2.chosen.tokens_per_second_per_device
        assert f"{100 * less:.0f}" in gpt2.verdict


def test_what_does_not_fit_is_never_chosen(gpt2: Answer) -> None:
    first, second, third = gpt2.rows
    rows = [replace(first, fits=False), second, third]
    assert best_of(rows) is second
    assert f"t = 1 needs {gigabytes(first.memory.total)} GB" in verdict(rows, H200)


def test_if_nothing_fits_the_verdict_says_what_fills_the_memory(gpt2: Answer) -> None:
    rows = [replace(row, fits=False) for row in gpt2.rows]
    for limit, cause in ((10**6, "weights, gradients and optimizer alone"), (10**12, "go with the batch")):
        said = verdict(rows, replace(H200, memory_bytes=limit))
        assert said.startswith(f"None fits {gigabytes(limit)} GB: the smallest, t = 4")
        assert cause in said


def test_405b_needs_more_than_a_node() -> None:
    found = answer(Question(model="llama3-405b", ranks=(8,)))
    (row,) = found.rows
    assert not row.fits
    assert row.memory.weights == pytest.approx(2 * 405.9e9 / 8, rel=0.001)
    assert 0.4 < row.mfu < 0.7
    assert "None fits 141 GB" in found.verdict


def test_lists_read_like_a_sentence() -> None:
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]


# --- questions ----------------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_is_refused_and_the_others_are_there(gpt2: Answer) -> None:
    found = answer(Question(model="gpt2", ranks=(1, 5, 2)))
    assert [row.ranks for row in found.rows] == [1, 2]
    assert "12 is not divisible by 5 ranks" in found.refused[5]
    assert found.rows[1].to_dict() == gpt2.rows[1].to_dict()


@pytest.mark.parametrize(
    ("stack", "mixtures"), [("eager", 1 * 2 + 2 * 2 * 2), ("megatron", 1 * 3 + 2 * 2 * 3)]
)
def test_a_sweep_has_every_mixture_that_differs(tmp_path: Path, stack: str, mixtures: int) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL.to_dict()))
    found = answer(Question(model=str(path), ranks=(1, 2, 4), sweep=True, stack=stack))
    assert len(found.rows) == mixtures
    assert len({(row.ranks, row.memory.total, row.step) for row in found.rows}) == mixtures


@pytest.mark.parametrize("hardware", names())
def test_every_profile_prices_a_model_in_a_dtype_that_it_has(hardware: str) -> None:
    found = answer(Question(model="gpt2", ranks=(1, 4), hardware=hardware))
    assert found.rows[0].plan.dtype == ("float16" if hardware == "v100" else "bfloat16")
    assert all(0 < row.mfu < 1 for row in found.rows)


def test_nodes_are_filled_with_replicas() -> None:
    found = answer(Question(model="gpt2", ranks=(2, 4), nodes=2))
    assert [(row.plan.tp, row.plan.dp) for row in found.rows] == [(2, 8), (4, 4)]


def test_an_answer_is_json(gpt2: Answer) -> None:
    again = json.loads(json.dumps(gpt2.to_dict()))
    assert again["rows"][again["chosen"]]["ranks"] == gpt2.chosen.ranks
    assert again["hardware"]["memory"] == H200.memory_bytes
    for row, theirs in zip(gpt2.rows, again["rows"], strict=True):
        assert theirs["memory"]["total"] == row.memory.total == sum_of_parts(theirs["memory"])


def sum_of_parts(memory: dict[str, Any]) -> int:
    return sum(value for key, value in memory.items() if key not in ("total", "by_name"))


# --- the trace ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sequence_parallel": True, "overlap": "decomposed"}])
def test_a_trace_is_one_that_perfetto_shows_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "trace.json"
    answer(Question(model="llama3-8b", ranks=(16,), seq=256, **options)).write_trace(path)
    text = path.read_text()
    assert violations(text) == []
    events = json.loads(text)["traceEvents"]
    assert {event["pid"] for event in events} == set(range(RANKS))
    rows = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"layers", "compute", "communication"} <= rows
    assert any(event["ph"] == "f" for event in events)  # arrows
    assert path.stat().st_size < 5_000_000


def test_a_trace_has_the_first_blocks_the_last_and_the_rest_as_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    found = answer(Question(model="gpt2", ranks=(2,), seq=64))
    found.write_trace(path)
    mine = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X" and e["pid"] == 0]
    blocks = {m[1] for e in mine if (m := re.match(r"blocks\.(\d+)", e["args"].get("layer", "")))}
    assert blocks == {"0", "1", "11"}
    compute = [e for e in mine if e["cat"] == "compute"]
    left_out = [e for e in compute if e["name"] == "blocks 2 to 10"]
    assert [e["args"]["phase"] for e in left_out] == ["forward", "backward"]
    end = max(e["ts"] + e["dur"] for e in compute)
    assert end == pytest.approx(1e6 * found.chosen.timeline.seconds, abs=1)


def test_the_trace_of_a_short_model_leaves_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    row = small(tp=2)
    from tpsim.studies.estimate_trace import slices

    drawn = list(slices(row.timeline, SMALL.layers))
    assert len(drawn) == len(row.timeline.launches)
    assert schedule(row.timeline.launches, H200).launches is row.timeline.launches
    assert not path.exists()


# --- the command --------------------------------------------------------------------------------------------


def tpsim(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpsim", "estimate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "question",
    [
        Question(model="llama3-8b", ranks=(1, 8, 16), seq=512),
        Question(model="gpt2", ranks=(1, 4), host="eager", seq=64),
        Question(model="gpt2", ranks=(1, 4), seq=64, sweep=True),
        Question(model="gpt2", ranks=(1, 4, 16), strategy="fsdp", batch=16),
        Question(model="gpt2", ranks=(1, 4), nodes=2),
    ],
    ids=["tp", "host-bound", "sweep", "fsdp", "nodes"],
)
def test_tables_fit_80_columns(question: Question) -> None:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    found = answer(question)
    for part in render(found):
        console.print(part)
    printed = console.export_text()
    assert "…" not in printed
    for row in found.rows:  # each stands on one line of both tables
        assert printed.count(gigabytes(row.memory.total)) >= 1
    lines = printed.splitlines()
    starts = [line for line in lines if re.match(r"\s*\d+( × \d+)?( (SP|–) +\w+\.?)? +[\d.,]+ ", line)]
    assert len(starts) == 2 * len(found.rows)


def test_the_command_prints_tables_and_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "gpt2", "--tp", "1,2,5", "--trace", "t.json", "--plot", "pictures")
    assert done.returncode == 0, done.stderr
    assert "Choose t = 1" in done.stdout
    assert "5 ranks: Attention: heads 12 is not divisible by 5 ranks" in " ".join(done.stdout.split())
    assert violations((tmp_path / "t.json").read_text()) == []
    for name in ("memory", "traffic", "speedup"):
        assert (tmp_path / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / "pictures" / f"{name}.svg").read_bytes()


def test_with_json_nothing_but_json_is_printed(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(SMALL.to_dict()))
    done = tpsim(tmp_path, "mine.json", "--tp", "2", "--sp", "--json", "--trace", "t.json")
    found = json.loads(done.stdout)
    assert (found["rows"][0]["model"], found["rows"][0]["sequence_parallel"]) == ("small", True)
    assert "written" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("llama3-40b", "a model 'llama3-40b' is not known here; pick one of llama3-405b"),
        ("gpt2 --tp 0", "--tp '0' is no list of numbers of ranks; write it like 1,2,4,8"),
        ("gpt2 --tp two", "--tp 'two' is no list of numbers of ranks; write it like 1,2,4,8"),
        (
            "gpt2 --tp 5,7",
            "pick a multiple of 5; Attention: heads 12 is not divisible by 7 ranks; pick a multiple",
        ),
        ("gpt2 --seq 1025", "seq 1025 is no length of a sequence for gpt2; pick 1 to 1024"),
        ("gpt2 --hardware h20", "hardware 'h20' is not known; pick one of h200"),
        ("gpt2 --hardware broken.json", "hardware 'broken.json' holds no profile"),
        ("gpt2 --stack megatrom", "did you mean 'megatron'?"),
        ("gpt2 --host slow", "host 'slow' is not known; pick one of eager, graph"),
        ("gpt2 --mix fp4", "mix 'fp4' is not known; pick one of megatron, zero"),
        ("gpt2 --dtype int8", "dtype 'int8' is none that h200 has; pick one of bfloat16"),
        (
            "gpt2 --dtype bfloat16 --hardware v100",
            "dtype 'bfloat16' is none that v100 has; pick one of float16",
        ),
        ("gpt2 --strategy pp", "strategy 'pp' is not known; pick one of tp, dp, fsdp"),
        (
            "gpt2 --strategy fsdp --batch 3 --tp 2",
            "a batch of 3 can't be shared evenly by 2 ranks; pick a multiple",
        ),
        (
            "gpt2 --nodes 1 --tp 3",
            "their 8 devices can't be shared by groups of 3; pick groups that divide 8",
        ),
        ("gpt2 --nodes 0", "nodes 0 hold no devices; pick 1 or more"),
        (
            "gpt2 --sp --tp 4 --seq 1023",
            "a sequence of 1023 can't be cut evenly among 4 ranks; pick a multiple",
        ),
        ("gpt2 --overlap decomposed --tp 2", "pass sequence_parallel=True"),
        ("gpt2 --microbatches 0", "microbatches 0 is no number of sequences; pick 1 or more"),
        ("gpt2 --plot /dev/null/x", "--plot /dev/null/x can't be a folder"),
        ("gpt2 --trace /dev/null/x", "trace /dev/null/x can't be written; pass a file in a folder"),
        ("broken.json", "broken.json is not JSON"),
        ("part.json", "missing ['activation'"),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    sentence: str,
) -> None:
    from tpsim.cli import main

    (tmp_path / "broken.json").write_text('{"hidden": 3')
    (tmp_path / "part.json").write_text('{"hidden": 3}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tpsim", "estimate", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert sentence in err
