"""`tpsim train` as a user meets it, in an empty folder."""

import json
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from mpi_jobs import needs_mpi

from tpsim import models, run
from tpsim.cli import main
from tpsim.comm import Mesh
from tpsim.comm.mpi import find_mpiexec
from tpsim.models import LanguageModel
from tpsim.train import AdamW, LossScale, checkpoint, loop, resumed
from tpsim.train.reshard import reshard

SMALL = ["--steps", "3", "--batch", "4", "--seq", "16"]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def tpsim(folder: Path, *arguments: str, ranks: int | None = None) -> Done:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "tpsim", "train", *arguments]
    if ranks is not None:
        command = [find_mpiexec(), "-n", str(ranks), *command]
    job = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return Done(job.returncode, job.stdout, job.stderr)


def here(folder: Path, *arguments: str) -> Done:
    """Run it in this process, which is quicker."""
    out, err = StringIO(), StringIO()
    with (
        chdir(folder),
        patch.object(sys, "argv", ["tpsim", "train", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        main()
    return Done(int(stop.value.code or 0), out.getvalue(), err.getvalue())


def steps(folder: Path) -> list[dict[str, Any]]:
    """The metrics that don't depend on the machine."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("step", "loss", "grad_norm", "lr", "held_out")} for line in lines]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short text, quick to look at."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    return str(path)


def test_train_prints_the_held_out_loss_beside_the_bigrams(tmp_path: Path, text: str) -> None:
    done = tpsim(tmp_path, *SMALL, "--text", text, "--ranks", "2", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "tiny-gpt on tp 2 × dp 1" in done.stdout
    assert "held-out loss" in done.stdout
    assert "a byte bigram has" in done.stdout
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [one["step"] for one in steps(tmp_path / "run")] == [1, 2, 3]


def test_a_step_that_is_left_out_is_told(tmp_path: Path, text: str) -> None:
    with patch.object(loop, "LossScale", partial(LossScale, start=2.0**30)):
        done = here(tmp_path, *SMALL, "--text", text, "--dtype", "float16", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (
        "step     1: gradients overflowed, so it is left out and the loss scale of 2^30 halved" in done.stdout
    )
    assert [one["grad_norm"] for one in steps(tmp_path / "run")] == [None] * 3
    assert (tmp_path / "run" / "loss.png").is_file()


def test_train_without_out_writes_nothing(tmp_path: Path, text: str) -> None:
    assert here(tmp_path, *SMALL, "--text", text).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "rounding"), [("float64", 1e-9), ("float32", 1e-4), ("bfloat16", 3e-2), ("float16", 4e-3)]
)
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, text: str, dtype: str, rounding: float) -> None:
    options = [*SMALL, "--text", text, "--dropout", "0.1", "--dtype", dtype]
    assert here(tmp_path, *options, "--ranks", "2", "--out", "whole").returncode == 0
    stopped = here(tmp_path, *options, "--ranks", "2", "--out", "broken", "--stop-after", "2")
    assert stopped.returncode == 0, stopped.stderr
    assert [one["step"] for one in steps(tmp_path / "broken")] == [1, 2]
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # as a kill may leave it
    recut = here(tmp_path, "--tp", "2", "--dp", "2", "--resume", "broken", "--out", "recut")
    assert recut.returncode == 0, recut.stderr
    resumed = here(tmp_path, "--resume", "broken")  # no option is said again
    assert resumed.returncode == 0, resumed.stderr
    assert f"tiny-gpt on tp 2 × dp 1, {dtype}" in resumed.stdout

    whole = steps(tmp_path / "whole")
    assert [one["step"] for one in steps(tmp_path / "broken")] == [1, 2, 3]
    assert steps(tmp_path / "broken")[2] == whole[2]  # bit for bit
    assert steps(tmp_path / "recut") == [pytest.approx(whole[2], rel=rounding)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """A folder with a run that stopped after 2 of 3 steps."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text.txt").write_text(Path(text).read_text())
    options = ["--text", "text.txt", "--ranks", "2", "--seed", "5", "--lr", "0.01"]
    done = here(folder, *SMALL, *options, "--stop-after", "2", "--out", "run")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    """That folder, to go on in."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--steps 2", "run has taken 2 steps or more already; pick more --steps"),
        ("--model tiny-llama", "model tiny-llama was asked for, and the run was saved with tiny-gpt, so"),
        ("--seed 0", "seed 0 was asked for, and the run was saved with 5, so it would be another run; leave"),
        ("--batch 8", "batch 8 was asked for, and the run was saved with 4"),
        ("--seq 32", "seq 32 was asked for, and the run was saved with 16"),
        ("--dropout 0.1", "dropout 0.1 was asked for, and the run was saved with 0.0"),
        ("--dtype float64", "dtype float64 was asked for, and the run was saved with float32"),
        ("--text begins.txt", "text begins.txt with checksum"),
        ("--text ends.txt", "text ends.txt with checksum"),
        ("--batch 4 --microbatches 3", "a batch of 4 can't be shared evenly"),
        ("--ranks 3", "can't be cut evenly among 3 ranks"),
    ],
)
def test_what_would_be_another_run_is_refused(copied: Path, options: str, sentence: str) -> None:
    text = (copied / "text.txt").read_text()
    (copied / "begins.txt").write_text(text.replace("fox", "cat", 1))
    (copied / "ends.txt").write_text("cat".join(text.rsplit("fox", 1)))
    before = sorted(path for path in copied.rglob("*") if path.is_file())
    done = here(copied, "--resume", "run", *options.split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path for path in copied.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(("name", "saved"), [("weight_decay", 0.1), ("max_norm", 1.0)])
def test_what_only_python_can_set_is_refused_too(stopped: Path, name: str, saved: float) -> None:
    with pytest.raises(ValueError, match=f"{name} 0.5 was asked for, and the run was saved with {saved}"):
        resumed(stopped / "run", text=str(stopped / "text.txt"), **{name: 0.5})


def test_a_text_that_is_gone_is_asked_for_and_may_lie_elsewhere(copied: Path) -> None:
    (copied / "text.txt").rename(copied / "moved.txt")
    done = here(copied, "--resume", "run")
    assert done.returncode == 2
    assert "its text text.txt is not there any more; pass --text with where it is now" in done.stderr
    assert here(copied, "--resume", "run", "--text", "moved.txt").returncode == 0


def test_what_does_not_make_another_run_may_change(copied: Path) -> None:
    options = ["--steps", "4", "--lr", "0.02", "--microbatches", "2", "--recompute", "full", "--tp", "4"]
    done = here(copied, "--resume", "run", *options, "--seed", "5", "--batch", "4", "--sp")
    assert done.returncode == 0, done.stderr
    assert "tiny-gpt on tp 4 × dp 1 with sequence parallelism" in done.stdout
    lines = steps(copied / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["lr"] == 0.01
    assert lines[2]["lr"] > 0.01  # of 0.02 at most
    assert here(copied, "--resume", "run", "--steps", "5", "--no-sp").returncode == 0


def test_a_resumed_run_has_the_ranks_it_had_unless_others_are_given(copied: Path) -> None:
    for options, told in (
        ("--dp 2 --stop-after 3", "tp 2 × dp 2"),
        ("--ranks 2 --steps 4", "tp 2 × dp 1"),  # as for a new run
        ("--tp 4 --dp 1 --steps 5", "tp 4 × dp 1"),
        ("--steps 6", "tp 4 × dp 1"),
    ):
        done = here(copied, "--resume", "run", *options.split())
        assert done.returncode == 0, done.stderr
        assert told in done.stdout


@needs_mpi
def test_a_resumed_run_has_the_same_bits_under_mpiexec(copied: Path) -> None:
    virtual = here(copied, "--resume", "run", "--ranks", "4", "--out", "virtual")
    mpi = tpsim(copied, "--resume", "run", "--out", "mpi", ranks=4)
    assert (virtual.returncode, mpi.returncode) == (0, 0), mpi.stderr
    assert "tiny-gpt on tp 4 × dp 1" in mpi.stdout
    assert steps(copied / "mpi") == steps(copied / "virtual")


def test_from_a_single_checkpoint_nothing_is_written_unless_asked(copied: Path) -> None:
    before = (copied / "run" / "metrics.jsonl").read_text()
    assert here(copied, "--resume", "run/step-000002").returncode == 0
    assert (copied / "run" / "metrics.jsonl").read_text() == before
    assert here(copied, "--resume", "run/step-000002", "--out", "other").returncode == 0
    assert [line["step"] for line in steps(copied / "other")] == [3]


def test_a_checkpoint_that_was_cut_anew_goes_on_cut_so(copied: Path) -> None:
    reshard(copied / "run", copied / "wide", 4)
    done = here(copied, "--resume", "wide")
    assert "tiny-gpt on tp 4 × dp 1" in done.stdout


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    def save(comm: Any) -> None:
        mesh = Mesh(comm, 1)
        model = LanguageModel(models.get("tiny-gpt"), mesh.tp)
        checkpoint.save(tmp_path / "mine", model, AdamW(model), mesh, {"note": "of my own loop"})

    run(save, 1)
    done = here(tmp_path, "--resume", "mine")
    assert done.returncode == 2
    assert "does not say how it was trained, so its run can't go on; pass one that" in done.stderr


@needs_mpi
def test_train_has_the_same_bits_in_both_worlds(tmp_path: Path, text: str) -> None:
    options = [*SMALL, "--text", text, "--tp", "2", "--dp", "2", "--sp", "--dropout", "0.1"]
    for ranks, out in ((None, "virtual"), (4, "mpi")):
        done = (
            tpsim(tmp_path, *options, "--out", out, ranks=ranks)
            if ranks
            else here(tmp_path, *options, "--out", out)
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("held-out loss") == 1
    assert steps(tmp_path / "virtual") == steps(tmp_path / "mpi")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--ranks 3", "can't be cut evenly among 3 ranks; pick tp from 1, 2, 4, 8"),
        ("--ranks 4 --tp 3", "tp 3 × dp 1 is not 4 ranks"),
        ("--ranks 0", "ranks 0 is too few; pick 1 or more"),
        ("--dp 3", "a batch of 16 can't be shared evenly by 3 data-parallel ranks"),
        ("--model gtp2", "a model 'gtp2' is not known"),
        ("--text no.txt", "text no.txt can't be read"),
        ("--schedule slow", "schedule 'slow' is not known; pick lockstep or free"),
        ("--resume nowhere", "resume nowhere is no folder"),
        ("--out /dev/null/x", "out /dev/null/x can't be written to"),
        ("--seq 129", "longer than the 128 positions"),
        ("--dtype half", "dtype 'half' is not known here"),
        ("--lr inf", "lr inf learns nothing; pick a positive number"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = here(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
