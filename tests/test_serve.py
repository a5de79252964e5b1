"""Serving, priced: what a decode step launches, what bounds it, and what it says of batches and ranks."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import models
from tpsim.cli import main
from tpsim.comm.dry import dry_group
from tpsim.cost.direct import CHOICES, choose, crossing
from tpsim.cost.hardware import load
from tpsim.cost.stacks import EAGER, SERVING, launches
from tpsim.cost.work import Attention, Collective, Gemm, Pointwise
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.infer import KVCache, Sampler, Sampling, next_logits
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.kv_cache import kv_cache_bytes
from tpsim.studies.serve import ServeQuestion, answer_serve
from tpsim.studies.serve_costs import decode_step, largest_batch, prefill_seconds
from tpsim.studies.serve_run import run_pass
from tpsim.trace import Trace

H200 = load("h200")
SMALL = models.llama("small", 5, 256, 8, kv_heads=2, ffn=640, vocab=1000, max_seq=512)
GPT = models.gpt("gpt", 5, 256, 8, vocab=1000)
ranks = st.sampled_from([1, 2, 4, 8])


def whole_program(config: ModelConfig, t: int, batch: int, new: int, earlier: int) -> Any:
    """Run all layers, none standing for another."""
    group = dry_group(t)
    with shapes_only():
        model = LanguageModel(config, group, dtype="bfloat16")
    cache = KVCache(model, batch, earlier + new)
    cache.lengths = [earlier] * batch
    tokens: Any = ShapeArray((batch, new), "int64")
    with Trace(kernels=True) as trace:
        Sampler(config.vocab, group, Sampling()).choose(next_logits(model, tokens, cache), [])
    size = sum(parameter.data.size for parameter in model.parameters().values())
    return launches(trace, SERVING), size


@settings(max_examples=25)
@given(
    st.sampled_from([SMALL, GPT]), ranks, st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.data()
)
def test_two_blocks_stand_for_all(
    config: ModelConfig, t: int, layers: int, batch: int, new: int, data: Any
) -> None:
    config, earlier = replace(config, layers=layers), data.draw(st.integers(0, 30))
    program, parameters = whole_program(config, t, batch, new, earlier)
    run = run_pass(config, t, batch=batch, new=new, earlier=earlier)
    assert run.launches == program
    assert run.parameters == parameters


@pytest.mark.parametrize("t", [1, 2])
def test_a_llama_block_launches_what_a_server_launches(t: int) -> None:
    run = run_pass(models.get("llama3-8b"), t, batch=16, new=1, earlier=2047)
    names = [
        work.name if isinstance(work, Pointwise) else type(work).__name__
        for work in (launch.work for launch in run.launches if launch.layer.startswith("blocks.7"))
    ]
    attention = ["rms_norm", "Gemm", "kv_write", "Attention", "Gemm", *["Collective"] * (t > 1), "add"]
    mlp = ["rms_norm", "Gemm", "silu_strided", "mul_strided", "Gemm", *["Collective"] * (t > 1), "add"]
    assert names == attention + mlp
    works = [launch.work for launch in run.launches if launch.layer.startswith("blocks.7")]
    assert Attention(16, 32 // t, 8 // t, 1, 2048, 128) in works
    assert Gemm(16, 28672 // t, 4096) in works


@settings(max_examples=25)
@given(st.sampled_from([SMALL, GPT]), ranks, st.integers(1, 40), st.integers(1, 500))
def test_a_step_reads_every_weight_and_the_whole_cache_once(
    config: ModelConfig, t: int, batch: int, context: int
) -> None:
    run = run_pass(config, t, batch=batch, new=1, earlier=context - 1)
    weights = sum(launch.work.n * launch.work.k for launch in run.launches if isinstance(launch.work, Gemm))
    h, f, v, q = config.hidden, config.ffn, -(-config.vocab // t), config.heads * config.head_size
    kv = max(1, config.kv_heads // t) * config.head_size
    gates = 2 if config.activation == "swiglu" else 1
    assert weights == v * h + config.layers * (h * (q // t + 2 * kv) + q // t * h + (gates + 1) * h * f // t)
    keys = sum(
        2 * 2 * w.batch * w.kv_heads * w.kv_seq * w.head_size
        for w in (launch.work for launch in run.launches)
        if isinstance(w, Attention)
    )
    assert keys == kv_cache_bytes(config, t, batch, context)


def test_rotary_costs_a_server_no_kernel_of_its_own() -> None:
    served, eager = (
        run_pass(SMALL, 1, batch=2, new=1, earlier=9, stack=stack).launches for stack in (SERVING, EAGER)
    )

    def moved(program: Any) -> list[int]:
        works = [launch.work for launch in program]
        return [w.nbytes for w in works if isinstance(w, Pointwise) and w.name == "kv_write"]

    assert len(eager) - len(served) == SMALL.layers * 10  # two times five kernels
    q, k = 2 * 8 * 32, 2 * 2 * 32
    assert moved(served) == [2 * 2 * (q + 2 * k)] * SMALL.layers
    assert moved(eager) == [2 * 2 * 2 * k] * SMALL.layers
    gpt = run_pass(GPT, 1, batch=2, new=1, earlier=9).launches
    assert moved(gpt) == [2 * 2 * 2 * q] * GPT.layers


@settings(max_examples=20)
@given(
    st.sampled_from([("llama3-8b", 1), ("llama3-8b", 2), ("gpt2-xl", 1), ("gpt2-xl", 5)]),
    st.integers(0, 7),
    st.integers(64, 900),
)
def test_parts_add_up_and_more_work_takes_longer(case: tuple[str, int], power: int, context: int) -> None:
    config, t, batch = models.get(case[0]), case[1], 2**power
    row = decode_step(config, t, batch, context, H200)
    assert sum(row.parts.values()) == pytest.approx(row.step)
    assert sum(row.by_kind.values()) == pytest.approx(row.step)
    assert row.parts[row.bound] == max(row.parts.values())
    assert 0 < row.block * config.layers < row.step
    assert decode_step(config, t, batch, context + 100, H200).step > row.step
    more = decode_step(config, t, 2 * batch, context, H200)
    assert more.step > row.step
    assert more.tokens_per_second > row.tokens_per_second
    bytes_read = row.memory.weights - config.vocab * config.hidden * 2 * (not config.tied) / t
    assert row.step > (0.9 * bytes_read + row.memory.kv_cache) / H200.memory_bandwidth


@pytest.mark.parametrize(
    ("t", "batch", "bound"), [(1, 1, "weights"), (1, 256, "kv_cache"), (8, 1, "all_reduce")]
)
def test_what_bounds_a_step_changes_with_batch_and_ranks(t: int, batch: int, bound: str) -> None:
    row = decode_step(models.get("llama3-8b"), t, batch, 4096, H200)
    assert row.parts[bound] > max(time for name, time in row.parts.items() if name not in (bound, "launches"))


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    config = models.get("llama3-8b")
    most = largest_batch(decode_step(config, 2, 4, 8192, H200), H200)
    assert decode_step(config, 2, most, 8192, H200).fits
    assert not decode_step(config, 2, most + 1, 8192, H200).fits
    assert largest_batch(decode_step(models.get("llama3-405b"), 1, 1, 64, H200), H200) == 0


def test_a_window_bounds_the_cache_and_what_is_read() -> None:
    config = models.get("llama3-8b")
    narrow = decode_step(config, 1, 64, 8192, H200, window=1024)
    assert narrow.memory.kv_cache == kv_cache_bytes(config, 1, 64, 1024)
    assert narrow.step == decode_step(config, 1, 64, 1024, H200).step


def test_prefill_is_bound_by_arithmetic_and_chunks_cost_more() -> None:
    config = models.get("llama3-8b")
    whole = prefill_seconds(config, 1, 4096, H200)
    flops = 2 * (config.parameter_count() - 2 * config.vocab * config.hidden) * 4096
    assert 0.5 < flops / H200.peak_flops["bfloat16"] / whole < 1
    assert whole < prefill_seconds(config, 1, 4096, H200, chunk=512) < 2 * whole
    assert prefill_seconds(config, 2, 4096, H200) < whole


def test_an_answer_is_json_with_a_row_for_each_number_of_ranks_that_can_be() -> None:
    answer = answer_serve(ServeQuestion(model="llama3-70b", ranks=(1, 2, 3, 8), batch=4))
    said = json.loads(json.dumps(answer.to_dict()))
    assert [row["tp"] for row in said["rows"]] == [1, 2, 8]
    assert list(said["refused"]) == ["3"]
    first, *others = said["rows"]
    assert (first["fits"], first["largest_batch"], first["curve"]) == (False, 0, [])
    for row in others:
        assert row["fits"]
        assert [point["batch"] for point in row["curve"]] == [
            2**n for n in range(11) if 2**n <= row["largest_batch"]
        ]
        latency = [point["seconds_per_token"] for point in row["curve"]]
        assert latency == sorted(latency)
    assert others[0]["step"] > others[1]["step"]
    assert answer.verdict.startswith("Soonest: t = 8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"dtype": "float99"}, "dtype 'float99' is none that h200 has"),
        ({"host": "none"}, "pick graph or eager"),
        ({"context": 0}, "takes 1 to 131072 positions, not 0"),
        ({"batch": 0}, "batch 0 is too few"),
        ({"ranks": (3,)}, "not divisible by 3 ranks"),
        ({"all_reduce": "magic"}, "pick one of library, one_shot"),
        ({"chunk": 0}, "chunks of 0"),
    ],
)
def test_questions_that_make_no_sense_are_refused(words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer_serve(ServeQuestion(**{"model": "llama3-8b", "ranks": (1,), **words}))


# --- all-reduces without a ring -----------------------------------------------------------------------------


@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 2**28), st.booleans())
def test_the_best_all_reduce_is_the_quickest_and_the_library_stays_what_it_was(
    t: int, nbytes: int, graph: bool
) -> None:
    work = Collective("all_reduce", nbytes, t)
    times = {choice: choose(H200, choice).seconds(work, graph=graph) for choice in CHOICES}
    assert times.pop("best") == min(times.values())
    assert times["library"] == H200.seconds(work, graph=graph)
    gather = Collective("all_gather", nbytes, t)
    assert choose(H200, "best").seconds(gather, graph=graph) == H200.seconds(gather, graph=graph)


def test_one_shot_and_two_shot_cross_where_hops_and_bytes_balance() -> None:
    """3 hops of 0.6 µs against (t − 1)(1 − 2/t) n bytes."""
    for t in (4, 8):
        at = crossing(H200, t, "one_shot", "two_shot")
        rate = H200.collective._rate("all_reduce", t, 8)
        assert at == pytest.approx(3 * 0.6e-6 * rate / ((t - 1) * (1 - 2 / t)), abs=1024)
    assert crossing(H200, 2, "two_shot", "one_shot") is None
    assert crossing(H200, 2, "one_shot", "two_shot") == 2**30  # of two ranks both send n bytes


def test_across_nodes_there_is_no_direct_way() -> None:
    work = Collective("all_reduce", 8192, 16)
    assert choose(H200, "best").seconds(work) == H200.seconds(work)


def test_quicker_all_reduces_make_quicker_steps() -> None:
    config = models.get("llama3-70b")
    slow, fast = (decode_step(config, 8, 1, 2048, choose(H200, way)) for way in ("library", "best"))
    saved = slow.parts["all_reduce"] - fast.parts["all_reduce"]
    assert saved > 0
    assert slow.step - fast.step == pytest.approx(saved)
    assert np.isclose(slow.parts["weights"], fast.parts["weights"])


# --- how it is shown ----------------------------------------------------------------------------------------


def estimate(*arguments: str) -> str:
    out = StringIO()
    with (
        patch.object(sys, "argv", ["tpsim", "estimate", *arguments]),
        patch.dict("os.environ", {"COLUMNS": "80"}),
        redirect_stdout(out),
        pytest.raises(SystemExit) as stop,
    ):
        main()
    assert not stop.value.code
    return out.getvalue()


@pytest.mark.parametrize("model", ["gpt2", "llama3-405b"])
def test_the_tables_hold_every_row_and_fit_80_columns(model: str) -> None:
    said = estimate(model, "--serve", "--tp", "1,4,5", "--batch", "16", "--context", "512")
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said
    assert "16 sequences with a context of 512" in said.replace("\n", " ")
    assert "5 ranks: Attention" in said
    assert said.count("fits") + said.count("too much") >= 2


def test_a_device_without_bfloat16_takes_what_it_has() -> None:
    answer = answer_serve(ServeQuestion(model="gpt2", ranks=(1,), hardware="v100"))
    assert answer.question.dtype == "float16"


def test_json_is_the_answers_own() -> None:
    said = json.loads(estimate("llama3-8b", "--serve", "--tp", "1,2", "--json"))
    answer = answer_serve(ServeQuestion(model="llama3-8b", ranks=[1, 2]))
    assert said == json.loads(json.dumps(answer.to_dict()))


def test_options_reach_the_estimate() -> None:
    def rows(*options: str) -> Any:
        said = estimate("llama3-8b", "--serve", "--tp", "4", "--context", "4096", "--json", *options)
        return json.loads(said)["rows"][0]

    plain = rows()
    assert rows("--window", "1024")["memory"]["kv_cache"] == plain["memory"]["kv_cache"] / 4
    assert rows("--chunk", "256")["prefill"] > plain["prefill"]
    assert rows("--all-reduce", "best")["step"] < plain["step"]


def test_pictures_show_the_rows(tmp_path: Path) -> None:
    from tpsim.plots.serving import latency_throughput, token_time

    answer = answer_serve(ServeQuestion(model="llama3-70b", ranks=(1, 2, 8), batch=4)).to_dict()["rows"]
    each, first = token_time(answer).axes
    tops = np.sum([[bar.get_height() for bar in bars] for bars in each.containers], axis=0)
    np.testing.assert_allclose(tops, [1e3 * row["step"] for row in answer])
    points: Any = first.lines[0].get_ydata()
    np.testing.assert_allclose(points, [1e3 * row["prefill"] for row in answer])
    (axes,) = latency_throughput(answer).axes
    assert [line.get_label() for line in axes.lines] == ["t = 2", "t = 8"]  # on one device it does not fit
    for line, row in zip(axes.lines, answer[1:], strict=True):
        assert np.shape(line.get_xydata()) == (len(row["curve"]), 2)
    estimate("gpt2", "--serve", "--tp", "1,2", "--plot", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in ("token_time", "latency_throughput") for kind in ("png", "svg")
    }
