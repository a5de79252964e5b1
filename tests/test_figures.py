"""Figures of `tpsim plot`: what they show has the shape that theory gives it, and axes say their units."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tpsim import plots
from tpsim.cost.hardware import load
from tpsim.models.config import get, gpt, llama
from tpsim.plots.fsdp import crossings
from tpsim.plots.style import line
from tpsim.plots.timeline import waiting
from tpsim.studies import figures
from tpsim.studies.estimate import Question, answer
from tpsim.studies.validate.activations import formula

H200 = load("h200")
GPT = gpt("a gpt", 2, 2048, 32, vocab=32768, max_seq=2048)
LLAMA = llama("a llama", 2, 4096, 32, kv_heads=8, ffn=14336, vocab=32768, max_seq=8192)

LABELS = {
    "traffic": ["GB", "collectives"],
    "memory": ["GB"],
    "activations": ["MB a rank"],
    "timeline": [""],
    "speedup": ["times as fast as on 1"],
    "fsdp": ["tokens/s a device"],
    "latency": ["ms", "ms"],
}


@pytest.fixture(scope="module")
def data() -> Callable[[str], dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}

    def make(name: str) -> dict[str, Any]:
        if name not in known:
            config = {"activations": GPT, "latency": get("llama3-70b")}.get(name, LLAMA)
            known[name] = figures.topic_named(name).data(config, H200)
        return known[name]

    return make


Make = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("name", figures.TOPICS)
def test_every_figure_draws_with_labelled_axes(data: Make, name: str, tmp_path: Path) -> None:
    figure = getattr(plots, figures.TOPICS[name].plot)(**data(name))
    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == LABELS[name]
    figure.savefig(tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text()
    (legend,) = (legend for axes in figure.axes if (legend := axes.get_legend()))
    texts = [text.get_text() for text in legend.texts]
    assert len(set(texts)) == len(texts) >= 3


def test_memory_falls_with_t(data: Make) -> None:
    rows = data("memory")["rows"]
    totals = [row["memory"]["total"] for row in rows]
    assert totals == sorted(totals, reverse=True)
    assert [row["tp"] for row in rows] == [1, 2, 4, 8, 16]
    (axes,) = plots.memory_stack(**data("memory")).axes
    tops = [
        sum(patches) for patches in zip(*([p.get_height() for p in c] for c in axes.containers), strict=True)
    ]
    assert tops == pytest.approx([total / 1e9 for total in totals])


def test_traffic_has_the_factor_of_a_ring(data: Make) -> None:
    lines = data("traffic")["lines"]
    for label, rows in lines.items():
        some = [row for row in rows if row["ranks"] <= 8]  # on 16 ranks there are two for each kv head
        per_rank = [row["sent_bytes"] * row["ranks"] / (row["ranks"] - 1) for row in some]
        assert per_rank == pytest.approx([per_rank[0]] * len(some), rel=2e-3), label


def test_sequence_parallelism_sends_as_much_unless_it_gathers_its_input_again(data: Make) -> None:
    lines = {label: rows[0] for label, rows in data("traffic")["lines"].items()}
    plain, sp, kept = (lines[way]["sent_bytes"] for way in ("TP", "TP + SP", "TP + SP, gathered input kept"))
    assert kept == pytest.approx(plain, rel=2e-3)
    # All-gathers of x for two dW, beside four all-reduces that are two such each; of ends one more.
    assert sp / plain == pytest.approx(10 / 8, rel=0.06)


def test_activations_are_those_of_table_2(data: Make) -> None:
    bars = data("activations")["bars"]
    sizes = {"a": 32, "s": 2048, "b": 1, "h": 2048, "t": 8}
    modes = {"one device": "none", "TP": "tp", "TP + SP": "sp", "TP,\nselective": "selective"}
    modes |= {"TP + SP,\nselective": "sp_selective", "TP,\nfull": "full"}
    for way, mode in modes.items():
        assert sum(bars[way].values()) == formula(mode, **sizes)


def test_what_is_exposed_is_what_waits(data: Make) -> None:
    found = data("timeline")
    for way, spans in found["lanes"].items():
        stretches = waiting(spans)
        assert sum(end - start for start, end in stretches) == pytest.approx(found["exposed"][way])
        for stream in ("compute", "communication"):
            own = sorted((s["start"], s["end"]) for s in spans if s["stream"] == stream)
            assert all(before[1] <= after[0] + 1e-12 for before, after in pairwise(own))


def test_overlap_hides_communication(data: Make) -> None:
    blocking, behind_dw, decomposed = data("timeline")["exposed"].values()
    assert blocking > behind_dw > decomposed > 0


def test_speedup_stays_below_ideal_and_bends_at_the_edge_of_a_node(data: Make) -> None:
    for rows in data("speedup")["lines"].values():
        rate = {row["tp"]: row["tokens_per_second"] for row in rows}
        assert all(rate[t] < t * rate[1] for t in rate if t > 1)
        assert rate[16] / rate[8] < rate[8] / rate[4]


def test_few_tokens_are_for_tensor_parallelism_and_many_for_fsdp(data: Make) -> None:
    first, *_, last = data("fsdp")["lines"].values()
    assert first[0]["rate"] > last[0]["rate"]
    assert first[-1]["rate"] < last[-1]["rate"]
    ((tokens, rate),) = crossings(first, last)
    assert first[0]["tokens"] < tokens < first[-1]["tokens"]
    assert min(p["rate"] for p in first) < rate < max(p["rate"] for p in last)


def test_more_ranks_answer_sooner_within_a_node(data: Make) -> None:
    rows = [row for row in data("latency")["rows"] if row["tp"] <= 8]
    for key in ("step", "prefill"):
        times = [row[key] for row in rows]
        assert times == sorted(times, reverse=True)
    assert all(row["fits"] for row in rows)


def test_crossings_are_where_lines_meet() -> None:
    rising = [{"tokens": 2**n, "rate": float(n)} for n in range(5)]
    flat = [{"tokens": 2**n, "rate": 2.5} for n in range(5)]
    assert crossings(flat, rising)[0] == pytest.approx((2**2.5, 2.5))
    assert crossings(flat, flat) == []


def test_lines_are_told_apart_without_colour() -> None:
    looks = [line(position) for position in range(8)]
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == len(looks)


def test_every_way_of_a_sweep_is_a_line_and_one_rank_is_shared() -> None:
    found = answer(Question(model="gpt2", ranks=(1, 2, 4), seq=64, sweep=True))
    drawn = plots.from_rows([row.to_dict() for row in found.rows], H200.memory_bytes, H200.node)
    assert list(drawn) == ["memory", "traffic", "speedup"]
    (axes,) = drawn["speedup"].axes
    firsts = {str(one.get_label()): np.asarray(one.get_xydata())[0].tolist() for one in axes.lines}
    assert list(firsts) == ["ideal", "TP", "TP, full recompute", "TP + SP", "TP + SP, full recompute"]
    assert firsts["TP"] == [1, 1]
    assert firsts["TP, full recompute"][1] < 1
    assert firsts["TP + SP"][0] == 2


def test_a_model_that_cannot_be_cut_says_why() -> None:
    odd = gpt("odd", 1, 21, 7, vocab=64, max_seq=64)
    with pytest.raises(ValueError, match="heads 7 is not divisible by"):
        figures.speedup(odd, H200)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("tarffic", "figure 'tarffic' is not known; pick one of traffic, memory"),
        ("memory --model gtp2", "a model 'gtp2' is not known here; pick one of gpt2"),
        ("memory --hardware h20", "hardware 'h20' is not known; pick one of h200"),
        ("memory --out /dev/null/x", "--out /dev/null/x can't be a folder"),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str
) -> None:
    from tpsim.cli import main

    monkeypatch.setattr(sys, "argv", ["tpsim", "plot", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert sentence in err


def test_the_command_lists_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tpsim", "plot"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(figures.TOPICS)
    drawn = subprocess.run(
        [*command, "memory", "--model", "gpt2", "--out", "slides"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert {path.name for path in (tmp_path / "slides").iterdir()} == {"memory.png", "memory.svg"}
