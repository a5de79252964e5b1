"""Under mpiexec: the same bits, the same traffic and the same errors as on virtual ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mpi_jobs import MISTAKES, SCRIPTS, Job, load, mpiexec, needs_mpi

import tpsim
from tpsim.comm.board import UNKNOWN, Row
from tpsim.comm.hang import explanation

PROPERTIES = {check.__name__: check for check in load(SCRIPTS / "properties.py").PROPERTIES}


@pytest.fixture(scope="session", params=[2, 3, 4])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank of one mpiexec job says to every property."""
    job = mpiexec(request.param, SCRIPTS / "properties.py", tmp=tmp_path_factory.mktemp("job"))
    assert job.code == 0, job.err
    result: list[dict[str, Any]] = json.loads(job.out)
    return result


def _virtual(name: str, ranks: int, *args: Any, schedule: Any = "lockstep") -> list[Any]:
    result: list[Any] = json.loads(json.dumps(tpsim.run(PROPERTIES[name], ranks, *args, schedule=schedule)))
    return result


@needs_mpi
@pytest.mark.parametrize("schedule", ["lockstep", "free"])
@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
def test_collectives_give_the_bits_and_the_traffic_of_virtual_ranks(
    answers: list[dict[str, Any]], schedule: str, messages: bool
) -> None:
    expected = _virtual("collectives", len(answers), messages, schedule=schedule)
    assert [rank["collectives"] for rank in answers] == expected


@needs_mpi
@pytest.mark.parametrize("schedule", ["lockstep", "free"])
@pytest.mark.parametrize(
    "name", ["the_librarys_own", "two_at_once", "layouts", "mismatches", "meshes", "messages"]
)
def test_the_same_program_says_the_same_in_every_world(
    answers: list[dict[str, Any]], name: str, schedule: str
) -> None:
    assert [rank[name] for rank in answers] == _virtual(name, len(answers), schedule=schedule)


@needs_mpi
def test_a_rank_has_one_blas_thread(answers: list[dict[str, Any]]) -> None:
    assert all(threads == 1 for rank in answers for threads in rank["blas"])


# -- how jobs end -----------------------------------------------------------------------------------------


def _end(tmp: Path, ranks: int, *how: str) -> Job:
    return mpiexec(ranks, SCRIPTS / "ending.py", *how, tmp=tmp)


@needs_mpi
@pytest.mark.parametrize(
    ("how", "code"), [(["3"], 3), (["3", "1"], 3), (["0"], 0), (["0", "1"], 0), (["so long"], 1)]
)
def test_exit_codes_are_the_jobs(tmp_path: Path, how: list[str], code: int) -> None:
    job = _end(tmp_path, 2, *how)
    assert job.code == code
    assert "Traceback" not in job.err


@needs_mpi
@pytest.mark.parametrize("who", [[], ["1"]], ids=["all", "one"])
def test_an_error_is_told_once(tmp_path: Path, who: list[str]) -> None:
    job = _end(tmp_path, 4, "raise", *who)
    assert job.code == 1
    assert job.err.startswith("Traceback")
    assert job.err.count('KeyError: "nobody\'s"') == 1
    assert "launch.py" not in job.err
    assert f"[raised by rank {who[0] if who else ''}" in job.err


@needs_mpi
def test_a_reduction_that_mpi_has_not_is_refused(tmp_path: Path) -> None:
    job = _end(tmp_path, 2, "no such reduction")
    assert job.code == 1
    assert 'algorithm "mpi": the MPI library has no max of complex64; make the group with a' in job.err


@needs_mpi
def test_launch_refuses_another_number_of_ranks(tmp_path: Path) -> None:
    job = mpiexec(3, MISTAKES / "early_return.py", tmp=tmp_path)
    assert job.code == 1
    assert job.err.count("launch: the script asks for ranks=4 and mpiexec started 3; start it with") == 1


@needs_mpi
def test_a_timeout_that_is_no_number_is_refused(tmp_path: Path) -> None:
    job = mpiexec(2, SCRIPTS / "ending.py", "0", tmp=tmp_path, TPSIM_TIMEOUT="soon")
    assert job.code == 1
    assert "TPSIM_TIMEOUT='soon' is not a number of seconds; set it to one" in job.err


@needs_mpi
def test_ctrl_c_ends_ranks_that_wait_in_mpi(tmp_path: Path) -> None:
    job = mpiexec(3, SCRIPTS / "stuck.py", tmp=tmp_path, interrupt_after=1.5)
    assert job.code != 0
    assert job.seconds < 10


# -- the watchdog -----------------------------------------------------------------------------------------


@needs_mpi
def test_the_watchdog_lets_slow_ranks_and_caught_errors_be(tmp_path: Path) -> None:
    job = mpiexec(3, SCRIPTS / "patience.py", tmp=tmp_path, TPSIM_TIMEOUT="1")
    assert (job.code, job.err) == (0, "")
    assert job.out.count("went on") == 3


@needs_mpi
def test_the_watchdog_knows_scripts_without_launch(tmp_path: Path) -> None:
    job = mpiexec(4, SCRIPTS / "without_launch.py", tmp=tmp_path, TPSIM_TIMEOUT="1")
    assert job.code == 1
    assert "ranks 1, 2: finished the script\n" in job.err
    assert (
        "rank 1 finished the script without calling all_reduce; every rank of a group must call it" in job.err
    )


def test_the_watchdog_says_how_long_and_blames_who_is_not_there() -> None:
    rows = {
        0: Row("barrier(ring)", "a.py:3 in main", 31.2, "barrier", None),
        1: Row("running", "a.py:9 in main"),
        2: UNKNOWN,
    }
    assert explanation("barrier", rows, 30.0).splitlines() == [
        "tpsim: barrier has not completed in 30 s; the job is ended",
        "  rank 0: barrier(ring), for over 30 s  at a.py:3 in main",
        "  rank 1: running  at a.py:9 in main",
        "  rank 2: not known here: on another host, or in no group with this rank",
        "rank 1 never called barrier; every rank of a group must call it, in the same order: look for a "
        "branch that depends on the rank",
        "(if a rank is only slow, set --timeout, or the environment's TPSIM_TIMEOUT, to more seconds; 0: no "
        "limit)",
    ]


def test_the_watchdog_shows_the_lines_that_each_rank_is_in() -> None:
    waits = ("a.py:9: main()", "a.py:3 in main: group.barrier()")
    rows = {
        0: Row("barrier(ring)", "a.py:3 in main", 31.2, "barrier", None, waits),
        1: Row("running", "a.py:5 in main", stack=("a.py:5 in main: time.sleep(100)",)),
        2: Row("barrier(ring)", "a.py:3 in main", 31.2, "barrier", None, waits),
        3: UNKNOWN,
    }
    assert explanation("barrier", rows, 30.0).splitlines()[5:-1] == [
        "where each is, the innermost line last:",
        "  ranks 0, 2:",
        "    a.py:9: main()",
        "    a.py:3 in main: group.barrier()",
        "  rank 1:",
        "    a.py:5 in main: time.sleep(100)",
    ]


def test_the_watchdog_says_that_a_fault_was_asked_for() -> None:
    rows = {
        0: Row("barrier(ring)", "a.py:3 in main", 31.2, "barrier", None),
        1: Row("stalled at barrier(ring), as fault '…' asks for", "a.py:3 in main", struck=True),
    }
    assert "\nrank 1 can't go on because of a fault that was asked for" in explanation("barrier", rows, 30.0)


def test_the_watchdog_blames_the_end_of_a_chain_of_waiting_ranks() -> None:
    rows = {
        0: Row("recv(from rank 1)", "", 31.0, "recv", (1,)),
        1: Row("barrier(ring) among ranks 1, 2", "", 30.0, "barrier", (1, 2)),
        2: Row("returned from main"),
    }
    assert "\nrank 2 returned from main without calling barrier; every" in explanation("recv", rows, 30.0)


def test_the_watchdog_tells_of_ranks_that_wait_for_each_other() -> None:
    rows = {
        0: Row("barrier(ring) among ranks 0, 1", "", 31.0, "barrier", (0, 1)),
        1: Row("send(to rank 0)", "", 31.0, "send", (0,)),
    }
    assert "\nevery rank waits: match every send with a recv" in explanation("send", rows, 30.0)
    rows[1] = Row("barrier(ring)", "", 30.0, "barrier", None)
    assert "\nranks wait in different collectives, for each other" in explanation("barrier", rows, 30.0)


# -- without MPI ------------------------------------------------------------------------------------------

VIRTUAL_THEN_MPI = """
import tpsim, numpy as np
from tpsim.comm import MPIUnavailableError, mpi
print(tpsim.run(lambda comm: tpsim.Group(comm).all_reduce(np.ones(1)), ranks=3))
print(tpsim.launch(lambda comm: comm.rank, ranks=2))
for ask in (mpi.world, mpi.find_mpiexec):
    try:
        ask()
    except MPIUnavailableError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [("raise ImportError", "is not installed"), ("raise RuntimeError('no libmpi')", "finds no MPI library")],
)
def test_without_mpi_virtual_ranks_work_and_the_rest_says_what_to_install(
    tmp_path: Path, how: str, why: str
) -> None:
    """A stand-in for mpi4py that fails as the real one would, and a Python with no mpiexec beside it."""
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text(f"def __getattr__(name): {how}")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.executable = '/nowhere/python'")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(tpsim.__file__).parents[1]}", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", VIRTUAL_THEN_MPI],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    remedy = "install it with: pip install 'tpsim[mpi]' (or mpi4py and mpich); virtual ranks need neither"
    assert done.stdout.splitlines() == [
        "[array([3.]), array([3.]), array([3.])]",
        "[0, 1]",
        f"MPI: mpi4py {why}; {remedy}",
        f"mpiexec: not found beside python or on PATH; {remedy}",
    ]
