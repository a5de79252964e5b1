"""Load tests: arrivals, waiting, and the queue's own laws."""

import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import models
from tpsim.cli import main
from tpsim.comm import solo
from tpsim.cost.hardware import load as hardware
from tpsim.infer import Emitted, Engine, KVCache, Sampler, Sampling, Scheduler
from tpsim.models import LanguageModel
from tpsim.studies.load import Load, run_load
from tpsim.studies.serve_costs import decode_step, prefill_seconds
from tpsim.studies.servers import PricedServer, Prices, RealServer

H200 = hardware("h200")
LLAMA = models.get("llama3-8b")
PRICES = Prices(LLAMA, 1, H200)


class Metronome:
    """Every step takes a second."""

    def __init__(self, rows: int, length: int) -> None:
        self.scheduler = Scheduler(rows, length)

    def step(self) -> tuple[float, list[Emitted]]:
        work = self.scheduler.plan()
        ready = [*work.decode, *([work.prefill] if work.prefill else [])]
        for one in ready:
            one.filled = len(one.request.prompt)
            one.tokens.append(0)
        emitted = [Emitted(one.request, 0, one.ended) for one in ready]
        self.scheduler.leave()
        return 1.0, emitted


def test_arrivals_are_poisson() -> None:
    arrivals = Load(rate=5.0, count=4000).arrivals()
    gaps = np.diff([0.0, *(at for at, _ in arrivals)])
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.06)
    assert gaps.std() == pytest.approx(1 / 5, rel=0.1)
    assert np.mean(gaps > 0.4) == pytest.approx(np.exp(-2), rel=0.15)
    lengths = [len(request.prompt) for _, request in arrivals]
    assert (min(lengths), max(lengths)) == (256, 768)
    assert np.mean([request.most for _, request in arrivals]) == pytest.approx(128, rel=0.02)


@settings(max_examples=30)
@given(st.floats(0.05, 3.0), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_everyone_is_served_in_full_and_in_order(rate: float, rows: int, new: int, seed: int) -> None:
    load = Load(rate=rate, count=25, prompt=4, new=new, seed=seed)
    result = run_load(load, Metronome(rows, load.longest))
    for one in result.served:
        assert len(one.tokens) == one.request.most
        assert one.to_first >= 1 - 1e-9
        assert all(gap >= 1 - 1e-9 for gap in one.gaps)
    firsts = [one.tokens[0] for one in result.served]
    assert firsts == sorted(firsts)
    assert all(b - a >= 1 - 1e-9 for a, b in pairwise(firsts))  # one prompt a step
    assert result.busy <= result.seconds + 1e-9
    assert 1 <= result.mean_batch <= rows


def test_with_one_row_the_wait_is_that_of_a_queue() -> None:
    """One row, steps of 1 s, 1 token each: an M/D/1 queue, which waits ρ/2(1 − ρ) on average (Pollaczek)."""
    load = Load(rate=0.6, count=20_000, prompt=1, new=1)
    result = run_load(load, Metronome(1, load.longest))
    waits = [one.to_first - 1 for one in result.served]
    assert np.mean(waits) == pytest.approx(0.6 / (2 * 0.4), rel=0.1)
    assert result.busy / result.seconds == pytest.approx(0.6, rel=0.05)


def test_an_idle_priced_server_takes_what_the_estimates_say() -> None:
    load = Load(rate=1e-3, count=3, prompt=300, new=20)
    result = run_load(load, PricedServer(Prices(LLAMA, 2, H200), rows=4, length=load.longest))
    for one in result.served:
        assert one.to_first == pytest.approx(prefill_seconds(LLAMA, 2, len(one.request.prompt), H200))
        near = decode_step(LLAMA, 2, 1, 400, H200).step
        assert np.mean(one.gaps) == pytest.approx(near, rel=0.02)
    assert result.mean_batch < 1.1


def test_more_load_waits_longer_and_gets_more_done_and_more_ranks_help() -> None:
    def at(rate: float, tp: int) -> Any:
        load = Load(rate=rate, count=60, prompt=512, new=64)
        return run_load(load, PricedServer(Prices(LLAMA, tp, H200), rows=32, length=load.longest, chunk=256))

    calm, busy, shared = at(2, 1), at(40, 1), at(40, 4)
    assert calm.to_first()[99] < busy.to_first()[99]
    assert calm.per_token()[50] < busy.per_token()[50]
    assert calm.tokens_per_second < busy.tokens_per_second
    assert calm.mean_batch < busy.mean_batch
    assert shared.to_first()[90] < busy.to_first()[90]
    said = json.loads(json.dumps(busy.to_dict()))
    assert list(said["to_first"]) == ["50", "90", "99"]


def test_chunks_keep_others_from_waiting_for_a_long_prompt() -> None:
    def worst_gap(chunk: int | None) -> float:
        load = Load(rate=8.0, count=40, prompt=4096, new=64)
        server = PricedServer(PRICES, rows=16, length=load.longest, chunk=chunk)
        return run_load(load, server).per_token()[99]

    assert worst_gap(512) < 0.5 * worst_gap(None)


def test_a_real_engine_serves_a_load_in_real_time() -> None:
    config = models.llama("small", 1, 16, 4, ffn=24, vocab=16, max_seq=64)
    load = Load(rate=200.0, count=6, prompt=6, new=4, vocab=16)
    model = LanguageModel(config)
    engine = Engine(model, Sampler(16, solo(), Sampling()), KVCache(model, 2, load.longest))
    result = run_load(load, RealServer(engine))
    assert [len(one.tokens) for one in result.served] == [one.request.most for one in result.served]
    assert 0 < result.busy <= result.seconds


def test_a_load_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"rate": 0.0}, {"rate": 1.0, "count": 0}, {"rate": 1.0, "prompt": 0}):
        with pytest.raises(ValueError, match="pick a rate above 0"):
            Load(**wrong)  # type: ignore[arg-type]


def test_the_command_shows_a_row_a_rate() -> None:
    def said(*arguments: str) -> str:
        out = StringIO()
        with (
            patch.object(
                sys, "argv", ["tpsim", "load", "gpt2", "--count", "20", "--rate", "2,90", *arguments]
            ),
            patch.dict("os.environ", {"COLUMNS": "80"}),
            redirect_stdout(out),
            pytest.raises(SystemExit) as stop,
        ):
            main()
        assert not stop.value.code
        return out.getvalue()

    calm, busy = json.loads(said("--json"))
    assert (calm["rate"], busy["rate"]) == (2, 90)
    assert calm["to_first"]["99"] <= busy["to_first"]["99"]
    table = said()
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    assert len(table.splitlines()) == 5  # a headline, a head of two lines, and two rows
