"""Six mistakes with communication: never a hang, and the message names each rank, its call and its line.

Each is a script that a student might write (`tests/mistakes/`); the same one runs in every world.
"""

import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from mpi_jobs import MISTAKES, load, mpiexec, needs_mpi

import tpsim
from tpsim.comm import CollectiveMismatchError, DeadlockError

SUM = "all_reduce(shape (4,), float64, sum, ring)"
LOSS = "all_reduce(shape (1,), float64, sum, ring)"

# What is said of each rank in every world, up to how long it has stood there; and the error of virtual ranks.
MISTAKES_AND_WORDS: dict[str, tuple[type[Exception], list[str]]] = {
    "different_collectives": (
        CollectiveMismatchError,
        [
            "all_gather / all_reduce: the ranks call different collectives; every rank must make the same ",
            f"  ranks 0, 1, 3: {SUM}  at different_collectives.py:15 in main",
            "  rank 2: all_gather(shape (4,), float64, axis 0, ring)  at different_collectives.py:14 in main",
        ],
    ),
    "different_sizes": (
        CollectiveMismatchError,
        [
            "all_reduce: the ranks' shapes differ; pad or cut to one shape before the call",
            f"  ranks 0-2: {SUM}  at different_sizes.py:13 in main",
            "  rank 3: all_reduce(shape (5,), float64, sum, ring)  at different_sizes.py:13 in main",
        ],
    ),
    "early_return": (
        DeadlockError,
        [
            f"  ranks 0, 2, 3: {SUM}  at early_return.py:15 in main",
            "  rank 1: returned from main",
            "without calling all_reduce; every rank of a group must call it: look for an early return",
        ],
    ),
    "raising_rank": (
        KeyError,
        [
            'raising_rank.py", line 13, in main',
            "x = np.full(4, weights[group.rank])",
            "KeyError: 1",
            "[raised by rank 1 of 4; the ",
        ],
    ),
    "lost_send": (
        DeadlockError,
        [
            "  rank 0: send(shape (4,), float64, to rank 1)  at lost_send.py:13 in main",
            "  ranks 1-3: returned from main",
        ],
    ),
    "rank_dependent_branch": (
        DeadlockError,
        [
            f"  rank 0: {LOSS} of group 'dp' among ranks 0, 2  at rank_dependent_branch.py:14",
            f"  rank 1: {SUM} of group 'tp' among ranks 0, 1  at rank_dependent_branch.py:15 in main",
            "  ranks 2, 3: returned from main",
            "rank 2 returned",
            "look for an early return, or a branch that depends on the rank",
        ],
    ),
}
NAMES = list(MISTAKES_AND_WORDS)


def _assert_told(text: str, name: str) -> None:
    """Every word is there, in this order."""
    place = 0
    for words in MISTAKES_AND_WORDS[name][1]:
        place = text.find(words, place)
        assert place >= 0, f"{words!r} is missing from:\n{text}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", ["lockstep", "free"])
def test_virtual_ranks_all_stop_and_the_error_names_each(name: str, schedule: Any) -> None:
    main = load(MISTAKES / f"{name}.py").main
    began = time.monotonic()
    with pytest.raises(MISTAKES_AND_WORDS[name][0]) as caught:
        tpsim.run(main, 4, schedule=schedule)
    assert time.monotonic() - began < 5  # milliseconds; five seconds are for a machine that does other things
    _assert_told("".join(traceback.format_exception(caught.value)), name)


@pytest.mark.parametrize("name", NAMES)
def test_the_script_alone_tells_and_fails(name: str) -> None:
    script = MISTAKES / f"{name}.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    _assert_told(done.stderr, name)


@needs_mpi
@pytest.mark.parametrize("name", NAMES)
def test_under_mpiexec_the_job_ends_and_tells_the_same(name: str, tmp_path: Path) -> None:
    job = mpiexec(4, MISTAKES / f"{name}.py", tmp=tmp_path, TPSIM_TIMEOUT="2")
    assert job.code == 1
    assert job.seconds < 20
    first = "tpsim: " if MISTAKES_AND_WORDS[name][0] is DeadlockError else "Traceback"
    assert job.err.startswith(first)
    assert (", for over 2 s" in job.err) == (first == "tpsim: ")
    _assert_told(job.err.replace(", for over 2 s", ""), name)
