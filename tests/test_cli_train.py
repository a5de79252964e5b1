"""`tpsim train` as a user meets it, in an empty folder."""

import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from mpi_jobs import needs_mpi

from tpsim.cli import main
from tpsim.comm.mpi import find_mpiexec

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


def test_train_without_out_writes_nothing(tmp_path: Path, text: str) -> None:
    assert here(tmp_path, *SMALL, "--text", text).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, text: str) -> None:
    options = [*SMALL, "--text", text, "--dropout", "0.1", "--dtype", "float64"]
    assert here(tmp_path, *options, "--ranks", "2", "--out", "whole").returncode == 0
    stopped = here(tmp_path, *options, "--ranks", "2", "--out", "broken", "--stop-after", "2")
    assert stopped.returncode == 0, stopped.stderr
    assert [one["step"] for one in steps(tmp_path / "broken")] == [1, 2]
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # as a kill may leave it
    recut = here(tmp_path, *options, "--tp", "2", "--dp", "2", "--resume", "broken", "--out", "recut")
    assert recut.returncode == 0, recut.stderr
    resumed = here(tmp_path, *options, "--ranks", "2", "--resume", "broken", "--out", "broken")
    assert resumed.returncode == 0, resumed.stderr

    whole = steps(tmp_path / "whole")
    assert [one["step"] for one in steps(tmp_path / "broken")] == [1, 2, 3]
    assert steps(tmp_path / "broken")[2] == whole[2]  # bit for bit
    assert steps(tmp_path / "recut") == [pytest.approx(whole[2], rel=1e-9)]


def test_what_cannot_be_resumed_is_refused(tmp_path: Path, text: str) -> None:
    options = [*SMALL, "--text", text, "--ranks", "2"]
    assert here(tmp_path, *options, "--out", "run").returncode == 0
    for more, sentence in (
        ([], "run has taken 3 steps or more already; pick more --steps"),
        (["--model", "tiny-llama"], "another model"),
    ):
        done = here(tmp_path, *options, "--resume", "run", *more)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1


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
