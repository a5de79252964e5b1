"""The command line as a user meets it: in a process of its own, in an empty folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tpsim.comm.mpi import find_mpiexec

SMALL = ["--batch", "1", "--seq", "24", "--hidden", "48"]


def tpsim(folder: Path, *arguments: str, ranks: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpsim", *arguments]
    if ranks is not None:
        command = [find_mpiexec(), "-n", str(ranks), *command]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_demo_prints_its_findings_and_draws_two_pictures(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "demo", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("✓") == 3
    assert "attention.qkv.weight" in done.stdout
    for name in ("demo_comm.png", "demo_memory.png"):
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_demo_with_json_writes_nothing_but_json(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "demo", *SMALL, "--json", "--sp", "--ranks", "8")
    assert json.loads(done.stdout)["config"]["ranks"] == 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algorithm", ["ring", "recursive_doubling", "rabenseifner", "tree", "rank_order"])
def test_demo_has_the_same_bits_and_bytes_in_both_worlds(tmp_path: Path, algorithm: str) -> None:
    arguments = ("demo", *SMALL, "--json", "--algorithm", algorithm)
    found: list[dict[str, Any]] = []
    for ranks in (None, 4):
        done = tpsim(tmp_path, *arguments, ranks=ranks)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert [result.pop("world") for result in found] == ["virtual", "mpi"]
    assert found[0] == found[1]


def test_demo_starts_mpiexec_itself_when_asked(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "demo", *SMALL, "--json", "--world", "mpi", "--ranks", "2")
    result = json.loads(done.stdout)
    assert (result["world"], result["config"]["ranks"], result["equal"]) == ("mpi", 2, True)


def test_mpis_own_collectives_are_not_said_to_be_counted(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "demo", *SMALL, "--algorithm", "mpi", ranks=2)
    assert done.returncode == 0, done.stderr
    assert "stands in" in done.stdout
    assert done.stdout.count("✓") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("demo --ranks 5", "24 heads can't be shared evenly by 5 ranks; pick ranks from 1, 2, 3, 4, 6, 8"),
        ("demo --ranks 0", "ranks 0 makes no block; pick 1 or more"),
        ("demo --seed -1", "seed -1 can't seed a generator; pick 0 or more"),
        ("demo --batch 100000000000", "memory"),
        ("demo --ranks four", "'--ranks'"),
        ("demo --world cloud", "world 'cloud' is not known; pick virtual or mpi"),
        ("demo --algorithm star", "algorithm 'star' is not known; pick one of ring"),
        ("demo --keep-gathered", "nothing is gathered without sequence parallelism"),
        ("demo --figures /dev/null/x", "pass --figures with a folder"),
        ("demo --rnaks 4", "--rnaks"),
        ("demmo", "demmo"),
        ("verify --ranks 1,two", "ranks"),
        ("verify --cases 0", "cases"),
        ("verify --plant no-such-bug", "no-such-bug"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = tpsim(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.startswith("tpsim")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_under_mpiexec_a_wrong_argument_is_told_once(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "demo", ranks=5)
    assert done.returncode == 2
    assert done.stderr.count("can't be shared evenly") == 1


def test_help_names_every_command(tmp_path: Path) -> None:
    bare, asked = tpsim(tmp_path), tpsim(tmp_path, "--help")
    assert bare.returncode == asked.returncode == 0
    assert bare.stdout == asked.stdout
    for command in ("demo", "verify"):
        assert command in asked.stdout


def test_verify_passes_and_shows_worst_errors(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "verify", "--cases", "20", "--ranks", "1,2", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dx" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_verify_fails_with_the_smallest_case_when_a_bug_is_planted(tmp_path: Path) -> None:
    done = tpsim(tmp_path, "verify", "--cases", "60", "--ranks", "1,2", "--plant", "row-bias-on-every-rank")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "t = 2" in done.stdout
