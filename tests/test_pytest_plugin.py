"""`pytest --ranks N`: tests marked mpi, on virtual ranks."""

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

Pytest = Callable[..., str]

HEAD = """
import pytest
from mpi4py import MPI
comm = MPI.COMM_WORLD
"""

BLOCKED = """
import sys
class Block:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "mpi4py": raise ImportError("blocked")
sys.meta_path.insert(0, Block)
import pytest
sys.exit(pytest.main())
"""


@pytest.fixture
def run(tmp_path: Path) -> Pytest:
    """Run pytest on a test file where no mpi4py is installed; return what it prints."""

    def run(source: str, *args: str, head: str = HEAD) -> str:
        (tmp_path / "test_it.py").write_text(head + textwrap.dedent(source), encoding="utf-8")
        options = ["-p", "tpsim.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers", "-rA"]
        command = [sys.executable, "-c", BLOCKED, *options, *args]
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=alone)
        return done.stdout + done.stderr

    return run


def outcomes(text: str) -> dict[str, int]:
    """Return the counts of pytest's last line."""
    last = next(line for line in reversed(text.splitlines()) if re.search(r" in [\d.]+s", line))
    return {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", last.rsplit(" in ", 1)[0])}


def test_tests_written_for_mpirun_pass_as_they_are(run: Pytest, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\nfrom mpi4py import MPI\nrank = MPI.COMM_WORLD.rank\n"
        "@pytest.fixture\ndef conftests_rank(): return rank\n"
    )
    text = run(
        """
        import unittest
        import numpy as np
        rank, size = comm.rank, comm.size
        pytestmark = pytest.mark.mpi

        @pytest.fixture(scope="module")
        def half():
            made = comm.Split(rank % 2)
            yield made
            comm.Barrier()
            made.Free()

        def test_size():
            assert size == 4

        @pytest.mark.parametrize("root", range(size))
        def test_bcast(half, root):
            assert comm.bcast(rank if rank == root else None, root) == root

        def test_fixtures_of_the_module_live_on(half):
            assert half.allreduce(1) == 2

        def test_own_conftest(conftests_rank):
            assert conftests_rank == rank

        def test_own_files_output_and_environment(tmp_path, capsys, monkeypatch):
            import os
            monkeypatch.setenv("MINE", str(rank))
            (tmp_path / "mine").write_text(str(rank))
            comm.Barrier()
            print((tmp_path / "mine").read_text(), os.environ["MINE"])
            comm.Barrier()
            assert capsys.readouterr().out == f"{rank} {rank}\\n"

        def test_files_that_ranks_share(mpi_tmp_path, mpi_tmpdir, mpi_file_name):
            if rank == 0:
                (mpi_tmp_path / "shared").write_text("by 0")
                mpi_tmpdir.join("other").write("by 0")
            comm.Barrier()
            assert (mpi_tmp_path / "shared").read_text() == mpi_tmpdir.join("other").read() == "by 0"
            assert len(set(comm.allgather(mpi_file_name))) == 1

        class TestCase(unittest.TestCase):
            def setUp(self):
                self.x = np.full(3, rank)
            def test_reduce(self):
                comm.Allreduce(MPI.IN_PLACE, self.x)
                self.assertEqual(list(self.x), [6, 6, 6])
        """,
        "--ranks=4",
    )
    assert outcomes(text) == {"passed": 10}, text


def test_a_failing_test_fails_once_with_every_ranks_report(run: Pytest) -> None:
    text = run(
        """
        @pytest.mark.mpi
        def test_one_fails():
            print("said by", comm.rank)
            comm.Barrier()
            assert comm.rank != 2, "two"
            comm.Barrier()

        @pytest.mark.mpi
        def test_each_fails():
            assert comm.rank == 17

        @pytest.mark.mpi
        def test_hangs():
            if comm.rank: comm.Barrier()

        @pytest.mark.mpi
        def test_leaves_a_message():
            if comm.rank: comm.send(1, dest=0)

        @pytest.fixture
        def broken():
            assert comm.rank != 1, "one"

        @pytest.mark.mpi
        def test_setup_fails(broken):
            comm.Barrier()

        @pytest.mark.mpi
        def test_the_next_is_none_the_worse():
            assert comm.allreduce(1) == 3
        """,
        "--ranks=3",
    )
    assert outcomes(text) == {"failed": 4, "error": 1, "passed": 1}, text
    assert "FAILED test_it.py::test_one_fails - rank 2 of 3: AssertionError: two" in text
    assert "ranks 0, 1: Barrier()  at test_it.py:11" in text
    assert all(f"said by {rank}" in text for rank in range(3))
    assert "rank 0 of 3 -" in text
    assert "assert 1 == 17" in text
    assert "assert 2 == 17" in text
    assert "rank 0: done\n  ranks 1, 2: Barrier()  at test_it.py:19" in text
    assert "rank 1 sent rank 0 a message" in text
    assert "ERROR test_it.py::test_setup_fails - rank 1 of 3: AssertionError: one" in text


def test_a_rank_that_can_not_import_the_test_says_why(run: Pytest) -> None:
    text = run(
        """
        import sys
        if comm.rank == 1: raise ValueError("not here")
        @pytest.mark.mpi
        def test_it(): pass
        """,
        "--ranks=2",
    )
    assert outcomes(text) == {"error": 1}, text
    assert "ERROR at setup of test_it" in text
    assert "rank 1 of 2" in text
    assert "ValueError: not here" in text


MARKS = """
@pytest.mark.mpi(min_size=3)
def test_needs_three(): pass

@pytest.mark.mpi(min_size=2)
def test_needs_two(): pass

@pytest.mark.mpi
@pytest.mark.mpi_skip
def test_skipped(): assert False

@pytest.mark.mpi
@pytest.mark.mpi_break
def test_broken(): assert False

@pytest.mark.mpi
@pytest.mark.mpi_xfail
def test_expected(): assert comm.rank == 0

@pytest.mark.mpi
def test_skips_on_a_rank():
    if comm.rank == 1: pytest.skip("one is enough")

@pytest.mark.mpi
def test_skips():
    pytest.skip("none is enough")

def test_plain():
    import sys
    assert "rank" not in globals()
    print("once")
"""


def test_marks_mean_what_pytest_mpi_says(run: Pytest) -> None:
    text = run(MARKS, "--ranks=2")
    assert outcomes(text) == {"passed": 3, "skipped": 4, "xfailed": 1}, text
    assert text.count("once\n") == 1


def test_without_ranks_marked_tests_are_skipped_and_say_what_to_do(run: Pytest) -> None:
    text = run(
        """
        import pytest

        @pytest.mark.mpi
        def test_marked():
            from mpi4py import MPI

        def test_plain(): pass
        """,
        head="",
    )
    assert outcomes(text) == {"passed": 1, "skipped": 1}, text
    assert "pass --ranks 4, or --with-mpi under mpiexec" in text


@pytest.mark.parametrize(("ranks", "remedy"), [("0", "pass 1 or more"), ("1000000", "pass 10000 or fewer")])
def test_a_number_of_ranks_that_can_not_be_is_refused(run: Pytest, ranks: str, remedy: str) -> None:
    assert remedy in run("", f"--ranks={ranks}")


def test_pytest_finds_the_plugin_where_tpsim_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"tpsim.pytest_plugin": "tpsim.pytest_plugin"}
