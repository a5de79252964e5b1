"""Drawn programs have the same results on virtual ranks, in both schedules, as under real MPI."""

import pickle
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from differential.programs import LARGEST, STEPS, Program, programs, run
from hypothesis import HealthCheck, Phase, given, seed, settings
from mpi_jobs import mpiexec, needs_mpi

import tpsim
from tpsim.comm.virtual.module import mpi_module

BATCH = 300  # programs
ON_MPI = Path(__file__).parent / "differential" / "on_mpi.py"
SCHEDULES: list[Any] = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)


def on_virtual_ranks(program: Program, schedule: Any) -> list[Any]:
    return tpsim.run(
        lambda comm: run(program, mpi_module(comm), comm),
        program.ranks,
        schedule=schedule,
        eager_bytes=program.eager_bytes,
    )


@cache
def drawn(number: int) -> list[Program]:
    """Return programs, the same each time."""
    batch = []

    @seed(20)
    @settings(
        max_examples=number, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(programs())
    def draw(program: Program) -> None:
        batch.append(program)

    draw()
    return batch


def first_difference(program: Program, ours: list[Any], theirs: list[Any]) -> Any:
    """Return the first step that has other results, and each rank's, or None."""
    for number, step in enumerate(program.steps):
        ranks = [(us[number], them[number]) for us, them in zip_longest(ours, theirs)]
        if any(us != them for us, them in ranks):
            return step, ranks
    return None


@pytest.fixture(scope="module")
def under_mpi(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Program, list[Any]]]:
    folder, scratch = tmp_path_factory.mktemp("batch"), tmp_path_factory.mktemp("scratch")
    batch = drawn(BATCH)
    (folder / "batch").write_bytes(pickle.dumps(batch))
    job = mpiexec(
        LARGEST, "-m", "mpi4py", ON_MPI, folder / "batch", folder / "results", tmp=scratch, timeout=120
    )
    assert (job.code, job.err) == (0, "")
    return list(zip(batch, pickle.loads((folder / "results").read_bytes()), strict=True))


@needs_mpi
@schedules
def test_a_drawn_program_has_the_results_of_real_mpi(schedule: Any, under_mpi: Any) -> None:
    for program, expected in under_mpi:
        assert first_difference(program, on_virtual_ranks(program, schedule), expected) is None, program


@given(programs())
@settings(max_examples=100)
def test_schedules_and_eager_sends_change_no_result(program: Program) -> None:
    assert on_virtual_ranks(program, "lockstep") == on_virtual_ranks(program, "free")


def test_every_kind_of_step_is_drawn() -> None:
    assert {step.name for program in drawn(BATCH) for step in program.steps} == set(STEPS)
