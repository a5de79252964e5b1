"""`tpsim bench`: what is asked of workers, what follows from times, and what is said of it."""

import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi_jobs import needs_mpi
from rich.console import Console

import tpsim
from tpsim import plots
from tpsim.cli import main
from tpsim.cli.bench_tables import render
from tpsim.comm.dry import dry_group
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.models.config import gpt
from tpsim.nn import TransformerBlock
from tpsim.studies.bench import (
    blocks,
    collectives,
    machine,
    products,
    readme,
    study,
    training,
    wording,
)
from tpsim.studies.bench.contenders import TORCH_PYTHON, Contender, processes, torch_python, virtual
from tpsim.studies.bench.crew import BenchError, Crew
from tpsim.studies.bench.programs import PROGRAMS
from tpsim.studies.bench.result import Key, Row, Section, timed, worst
from tpsim.studies.bench.rounds import Effort, Entry, Timing, interleave
from tpsim.studies.bench.sizes import BLOCKS
from tpsim.studies.bench.targets import TARGETS, Target, findings
from tpsim.trace import Trace

TINY = training.Job("tiny", gpt("tiny", 1, 16, 2, vocab=65, max_seq=8), 2, 8).arguments()
SECONDS = st.floats(1e-6, 1e3)


def quietly(words: str) -> None:
    pass


# --- workers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contender",
    [
        virtual("v", 2),
        virtual("v", 2, "free"),
        pytest.param("mpi", marks=needs_mpi),
    ],
    ids=["lockstep", "free", "mpiexec"],
)
def test_a_contender_times_steps_and_tells_what_they_return(contender: Contender | str) -> None:
    one = processes("v", 2) if isinstance(contender, str) else contender
    with Crew([one]) as crew:
        crew.tell("v", "prepare", "a model", "train", TINY)
        losses = crew.tell("v", "ask", "a model")
        assert len(losses) == 2
        assert losses[0] == losses[1] < math.log(65) + 0.5
        seconds = crew.time("v", "a model", 3, 2, True)
        assert len(seconds) == 3
        assert min(seconds) > 0
        assert crew.cpu_seconds > 0
        crew.forget()
        with pytest.raises(BenchError, match="KeyError: 'a model'"):
            crew.time("v", "a model", 1, 1, True)


def test_a_worker_that_ends_before_it_calls_is_told_of_with_its_last_words() -> None:
    broken = Contender("broken", (sys.executable, "-c", "import sys; sys.exit('no such thing')"))
    with (
        pytest.raises(BenchError, match="broken: ended before it began; it says: no such thing"),
        Crew([broken]),
    ):
        pass


class FakeCrew:
    """Answers at once, with times in the order in which it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, int, int, bool]] = []
        self.cpu_seconds = 0.0

    def tell(self, name: str, *order: Any) -> list[float]:
        assert order[0] == "prepare"
        return [self.seconds, self.seconds / 2]  # the slowest rank counts

    def time(self, name: str, key: str, steps: int, repeat: int, warm: bool) -> list[float]:
        self.asked.append((key, steps, repeat, warm))
        return [float(len(self.asked))] * steps


@given(
    count=st.integers(1, 5),
    rounds=st.integers(1, 4),
    seconds=st.floats(1e-5, 2.0),
    burst=st.floats(0.01, 1.0),
)
def test_entries_take_turns_and_another_one_begins_each_round(
    count: int, rounds: int, seconds: float, burst: float
) -> None:
    crew: Any = FakeCrew(seconds)
    entries = [Entry("what", f"who {i}", "the same", "program", {}) for i in range(count)]
    with patch("tpsim.studies.bench.rounds._PAUSE", 0):
        found = interleave(crew, entries, Effort(rounds, burst, step=0.001), quietly)
    firsts = [crew.asked[turn * count][0] for turn in range(rounds)]
    assert firsts == [entries[turn % count].key for turn in range(rounds)]
    for turn in range(rounds):
        of_turn = {key for key, *_ in crew.asked[turn * count : (turn + 1) * count]}
        assert of_turn == {entry.key for entry in entries}
    _, steps, repeat, _ = crew.asked[0]
    assert repeat * seconds > 0.0005
    assert steps == 1 or steps * repeat * seconds < 1.5 * burst
    assert all(len(timing.seconds) == rounds * steps for timing in found.timings.values())


@given(st.lists(SECONDS, min_size=1, max_size=30))
def test_about_a_quarter_of_the_steps_lies_outside_of_each_quartile(seconds: list[float]) -> None:
    timing = Timing(seconds)
    low, high = timing.quartiles
    assert min(seconds) <= low <= timing.median <= high <= max(seconds)
    assert sum(one < low for one in seconds) < len(seconds) / 4 + 1
    assert sum(one > high for one in seconds) < len(seconds) / 4 + 1


def test_what_others_use_is_what_neither_this_program_nor_its_workers_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"monotonic": 0.0, "process_time": 1.0}
    busy = 100.0
    monkeypatch.setattr(machine, "_busy", lambda: busy)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(
        machine,
        "time",
        SimpleNamespace(monotonic=lambda: clock["monotonic"], process_time=lambda: clock["process_time"]),
    )
    workers = 7.0
    others = machine.Others(lambda: workers)
    clock, workers, busy = {"monotonic": 10.0, "process_time": 2.0}, 12.0, 100.0 + 1.0 + 5.0 + 8.0
    assert others.share() == pytest.approx(8.0 / (10 * 4))
    busy = None  # type: ignore[assignment]
    assert others.share() is None


PEAK = """
import numpy as np
from tpsim.studies.bench import resident

np.ones(64 << 20, np.uint8)
resident.forget_peak()
before = resident.peak()
held = np.ones(64 << 20, np.uint8)
print(resident.peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a peak")
def test_the_peak_is_of_what_was_held_since_it_was_forgotten() -> None:
    """In a process of its own: this one may keep memory that was freed, and have it at hand."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 0.9 * (64 << 20) < int(done.stdout) < 1.5 * (64 << 20)


# --- what work is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", BLOCKS.values(), ids=list(BLOCKS))
def test_flops_of_a_block_are_those_of_its_matrix_products(size: Any) -> None:
    with shapes_only():
        block = TransformerBlock(size.hidden, size.heads, size.ffn, dry_group(1))
    x: Any = ShapeArray((size.batch, size.seq, size.hidden), "float32")
    with Trace(kernels=True) as trace:
        block.backward(block.forward(x))
    assert size.flops == sum(kernel.matmul_flops for kernel in trace.kernels)


@given(
    st.sampled_from(collectives.OPERATIONS),
    st.integers(1, 6),
    st.integers(1, 8),
)
def test_bytes_moved_are_those_of_all_inputs_and_results(operation: str, ranks: int, each: int) -> None:
    nbytes = 4 * ranks * each

    def on_rank(comm: Any) -> int:
        x = np.ones(each if operation == "all_gather" else ranks * each, np.float32)
        return int(x.nbytes + getattr(tpsim.Group(comm), operation)(x).nbytes)

    assert collectives.moved(operation, nbytes, ranks) == sum(tpsim.run(on_rank, ranks))


def test_every_size_of_collectives_can_be_cut_evenly_and_has_a_name_of_its_own() -> None:
    names = {collectives.what("all_reduce", nbytes) for nbytes in collectives.SIZES}
    assert len(names) == len(collectives.SIZES)
    assert all(
        nbytes % (4 * ranks) == 0 for nbytes in collectives.SIZES for ranks in collectives.RANKS.values()
    )


# --- torch --------------------------------------------------------------------------------------------------

HAS_TORCH = importlib.util.find_spec("torch") is not None


WITH_TORCH = os.environ.get(TORCH_PYTHON) or (sys.executable if HAS_TORCH else None)


@pytest.mark.skipif(
    WITH_TORCH is None, reason=f"torch is not installed, and {TORCH_PYTHON} names no Python that has it"
)
def test_torch_computes_the_same_block_in_each_way() -> None:
    effort = {"small": Effort(1, 0.0)}
    found = blocks.section(effort, quietly, mpi=False, torch=WITH_TORCH)  # raises if results differ
    assert {blocks.TORCH_1, blocks.TORCH_TP, blocks.TORCH_HAND} < {row.who for row in found.rows}


def test_torchs_workers_load_without_anything_that_tpsim_needs() -> None:
    load = "import sys; sys.path.insert(0, sys.argv[1]); import tpsim.studies.bench.torch_ranks"
    folder = Path(tpsim.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", load, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_it_says_how_to_install_it_or_name_another_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TPSIM_TORCH_PYTHON", raising=False)
    with pytest.raises(ValueError, match=r"--against torch: .* has no torch .*; install it .*--torch-python"):
        torch_python(None)


def test_a_python_that_is_not_there_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPSIM_TORCH_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ValueError, match=r"--torch-python .* can't be started .*; pass the python"):
        torch_python(None)


# --- targets ------------------------------------------------------------------------------------------------


@cache
def keys_that_are_measured() -> set[Key]:
    """Of a run with MPI and torch."""
    found = {
        ("block", entry.what, entry.who) for size in BLOCKS for entry in blocks._entries(size, True, True)
    }
    found |= {
        ("train", job.name, who) for job in training.JOBS for who in (blocks.RANK, blocks.FREE, blocks.MPI_2)
    }
    contenders = [
        SimpleNamespace(name=name) for name in (collectives.LOCKSTEP_4, collectives.FREE_4, blocks.MPI_2)
    ]
    calls = collectives._calls(contenders, collectives.SIZES, collectives.OPERATIONS)  # type: ignore[arg-type]
    found |= {("collectives", call.what, call.who) for call in calls}
    return found | {("memory", job.name, blocks.RANK) for job in training.JOBS}


def test_every_target_is_of_rows_that_a_run_has() -> None:
    asked = {key for target in TARGETS for key in (target.row, target.over) if key is not None}
    assert asked <= keys_that_are_measured()
    assert {target.number for target in TARGETS} == set(range(1, 8))


@given(SECONDS, SECONDS, SECONDS, st.booleans())
def test_a_target_holds_just_if_the_ratio_is_within_its_limit(
    value: float, other: float, bound: float, at_least: bool
) -> None:
    rows = [Row("a", "b", "c", value, bound=bound), Row("a", "b", "d", other)]
    kinds: dict[Any, float] = {
        "ratio": value / other,
        "over bound": value / bound,
        "share": bound / value,
        "ms": 1000 * value,
    }
    for measure, expected in kinds.items():
        for slack in (0.99, 1.01):
            target = Target(1, "", measure, ("a", "b", "c"), expected * slack, ("a", "b", "d"), at_least)
            (finding,) = findings(rows, [target])
            assert finding.measured == pytest.approx(expected)
            assert finding.holds is ((slack > 1) != at_least)


def test_what_was_not_measured_neither_holds_nor_fails() -> None:
    assert {finding.holds for finding in findings([])} == {None}
    no_bound = [Row(*target.row, 1.0) for target in TARGETS if target.measure in ("share", "over bound")]
    assert {finding.holds for finding in findings(no_bound)} == {None}


# --- what is said -------------------------------------------------------------------------------------------


@cache
def a_bench(seed: int = 0, *, others: float | None = 0.01) -> study.Bench:
    """All rows, with times drawn by chance."""
    rng = np.random.default_rng(seed)

    def row(key: Key) -> Row:
        seconds = sorted(rng.uniform(1e-4, 1.0, 3).tolist())
        work = float(rng.uniform(1e6, 1e10))
        made = timed(*key, Timing(seconds), work, speed=2 * work / seconds[1])
        return Row(*key, work, unit="B", bound=work / 1.1) if key[0] == "memory" else made

    keys = [
        *(
            ("gemm", f"{dtype} 512", who)
            for dtype in ("float32", "float64")
            for who in (products.ONE, products.ALL)
        ),
        *sorted(keys_that_are_measured()),
        *(("collectives", "copy", who) for who in collectives.RANKS),
    ]
    sections = [
        Section(name, [row(key) for key in keys if key[0] == name], others, ("A note.",) * (name == "train"))
        for name in study.SECTIONS
    ]
    about = study.Machine("A processor", "Linux", 2, "2026-01-31", {"tpsim": "0", "NumPy": "2"}, others)
    return study.Bench(about, sections, ["something is left out"])


def test_json_has_every_row_and_every_target() -> None:
    found = a_bench()
    again = json.loads(json.dumps(found.to_dict()))
    rows = [row for section in again["sections"] for row in section["rows"]]
    assert {(row["section"], row["what"], row["who"]) for row in rows} == {row.key for row in found.rows}
    assert [target["holds"] for target in again["targets"]] == [finding.holds for finding in found.findings]
    assert [target["limit"] for target in again["targets"]] == [target.limit for target in TARGETS]


@pytest.mark.parametrize("others", [None, 0.01, 0.2])
def test_tables_name_all_contenders_targets_and_what_is_missing(others: float | None) -> None:
    console = Console(width=250, record=True, file=io.StringIO())
    found = a_bench(others=others)
    for part in render(found):
        console.print(part)
    text = console.export_text()
    for row in found.rows:
        assert row.section == "memory" or row.who in text
    assert all(target.what in text for target in TARGETS)
    assert "something is left out" in text
    assert ("doubtful" in text) == (others == 0.2)


@given(st.lists(st.none() | st.floats(0, 1)))
def test_the_worst_share_is_the_largest_that_is_known(shares: list[float | None]) -> None:
    known = [share for share in shares if share is not None]
    assert worst(shares) == (max(known) if known else None)


@given(st.floats(0.05, 1e6))
def test_three_digits_are_within_half_a_percent(number: float) -> None:
    text = wording.three(number)
    assert abs(float(text.replace(",", "")) / number - 1) < 0.0055
    assert len(text.split(".")[0].replace(",", "")) > 3 or len(re.sub(r"[.,]|^0\.0*", "", text)) <= 4


def test_without_mpi_its_rows_are_left_out_and_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "without_mpi", lambda: "MPI: mpi4py is not installed; install it")
    asked: list[bool] = []

    def section(*_: Any, mpi: bool, **__: Any) -> Section:
        asked.append(mpi)
        return Section("block", [])

    monkeypatch.setattr(blocks, "section", section)
    found = study.bench(["block"])
    assert asked == [False]
    assert found.missing == ["rows under mpiexec are left out: MPI: mpi4py is not installed; install it"]
    assert blocks.MPI_2 not in {one.name for one in blocks._contenders(False, None)}


# --- README -------------------------------------------------------------------------------------------------

OUTSIDE = st.text().filter(lambda text: "tpsim bench:" not in text)


@given(OUTSIDE, OUTSIDE, OUTSIDE, st.integers(0, 9))
def test_only_what_is_between_the_markers_changes_and_writing_it_twice_is_writing_it_once(
    before: str, between: str, after: str, seed: int
) -> None:
    text = f"{before}{readme.BEGIN}{between}{readme.END}{after}"
    summary = readme.summary(a_bench(seed))
    once = readme.replaced(text, summary)
    assert once.startswith(f"{before}{readme.BEGIN}\n")
    assert once.endswith(f"\n{readme.END}{after}")
    assert summary in once
    assert readme.replaced(once, summary) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        readme.BEGIN,
        readme.END + readme.BEGIN,
        2 * (readme.BEGIN + readme.END),
    ],
    ids=["none", "no end", "the wrong way round", "two"],
)
def test_a_file_without_one_place_for_it_is_refused_before_the_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"--write .*: it has not one place .*; put the lines"):
        readme.check(path)
    with pytest.raises(ValueError, match=r"--write .*: it can't be read"):
        readme.check(tmp_path / "nothing.md")


def test_a_summary_has_what_was_measured_and_tables_of_one_width() -> None:
    found = a_bench()
    summary = readme.summary(found)
    assert all(target.what in summary for target in TARGETS)
    assert "A processor, 2 cores" in summary
    assert "2026-01-31" in summary
    for table in re.findall(r"(?:^\|.*\n?)+", summary, re.MULTILINE):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1
    only_memory = readme.summary(study.Bench(found.machine, [found.sections[-1]]))
    assert blocks.TORCH_TP not in only_memory


def test_the_readme_has_a_place_for_it() -> None:
    readme.check(Path(tpsim.__file__).parent.parent / "README.md")


# --- the command --------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(study, "bench", lambda *_, **__: a_bench())
    monkeypatch.setattr(sys, "argv", ["tpsim", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_prints_writes_and_draws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, figure = tmp_path / "notes.md", tmp_path / "bench.png"
    text.write_text(f"# Notes\n{readme.BEGIN}\n{readme.END}\n")
    assert run(monkeypatch, "--json", "--write", str(text), "--plot", str(figure)) == 0
    out = capsys.readouterr()
    assert len(json.loads(out.out)["targets"]) == len(TARGETS)
    assert "written:" in out.err
    assert blocks.TORCH_TP in text.read_text()
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_missed_target_is_an_exit_code_only_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(finding.holds is False for finding in a_bench().findings)
    assert run(monkeypatch) == 0
    assert run(monkeypatch, "--check") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "gemm,nonsense"], "'nonsense' is no section; pick from gemm"),
        (["--against", "jax"], "jax is not known; torch is"),
        (["--plot", "x.jpeg2"], "no kind of picture"),
        (["--plot", "nowhere/x.png"], "its folder is not there"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


def test_the_picture_has_a_panel_for_each_section_and_each_collective() -> None:
    figure = plots.bench([section.to_dict() for section in a_bench().sections])
    titles = [axes.get_title("left") for axes in figure.axes if axes.axison]
    assert len(titles) == len(study.SECTIONS) - 1 + len(collectives.OPERATIONS)
    assert len(set(titles)) == len(titles)
    alone = plots.bench([a_bench().sections[1].to_dict()])
    bars = sum(len(container) for container in alone.axes[0].containers)
    assert bars == len(a_bench().sections[1].rows)


def test_all_programs_of_entries_are_known() -> None:
    entries = [*products.entries(), *blocks._entries("small", True, False)]
    assert {entry.program for entry in entries} <= set(PROGRAMS)
