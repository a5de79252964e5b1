"""Each demo prints the same on virtual ranks and under mpiexec."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mpi_jobs import mpiexec, needs_mpi

from tpsim.studies import tutorials

DEMOS = sorted((tutorials.folder() / "demos").glob("*.py"))
DEADLOCK = tutorials.folder() / "demos" / "deadlock.py"
TIMES = re.compile(r" +\d+ µs, +[\d.]+ MB/s")
each_demo = pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)


def run(demo: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", demo],
        cwd=folder,
        env={**os.environ, "TPSIM_FIGURES": str(folder / "figures")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_there_are_ten() -> None:
    assert len(DEMOS) == 10


@each_demo
def test_a_demo_is_short_and_says_first_what_it_shows(demo: Path) -> None:
    source = demo.read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert source.count("\n") <= 40
    assert re.search(r"^    tpsim\.launch\(main", source, re.MULTILINE)


def test_the_readme_shows_what_the_ring_prints(tmp_path: Path) -> None:
    readme = (tutorials.folder().parent / "README.md").read_text(encoding="utf-8")
    printed = run(tutorials.folder() / "demos" / "ring.py", tmp_path).stdout
    assert f"$ mpiexec -n 4 python tutorials/demos/ring.py\n{printed}```" in readme


@needs_mpi
@pytest.mark.parametrize("demo", [d for d in DEMOS if d != DEADLOCK], ids=lambda path: path.stem)
def test_a_demo_prints_the_same_in_both_worlds(demo: Path, tmp_path: Path) -> None:
    alone = run(demo, tmp_path)
    figures, scratch = tmp_path / "figures", tmp_path / "scratch"
    drawn = sorted(figures.glob("*"))
    for picture in drawn:
        picture.unlink()
    scratch.mkdir()
    job = mpiexec(4, demo, tmp=scratch, TPSIM_FIGURES=str(figures))
    assert (alone.returncode, alone.stderr) == (job.code, job.err) == (0, "")
    assert alone.stdout
    assert TIMES.sub("", job.out) == TIMES.sub("", alone.stdout)
    assert sorted(figures.glob("*")) == drawn


@needs_mpi
def test_the_deadlock_is_told_of_in_both_worlds_rank_by_rank(tmp_path: Path) -> None:
    alone, job = run(DEADLOCK, tmp_path), mpiexec(4, DEADLOCK, tmp=tmp_path)
    assert (alone.returncode, job.code) == (1, 1)
    assert alone.stdout == job.out == "begin_to_send_then_receive: ranks 0 to 3 got [3, 0, 1, 2]\n"
    lines = DEADLOCK.read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "group.send(x" in text)
    for text in (alone.stderr, re.sub(r", for over [\d.]+ s", "", job.err)):
        for rank in range(4):
            call = f"send(shape (1,), int64, to rank {(rank + 1) % 4})"
            assert f"  rank {rank}: {call}  at deadlock.py:{line} in send_then_receive" in text
    assert "let one of them receive first" in alone.stderr
