"""How a process knows that it is a rank of an MPI job: what mpiexec and Slurm set."""

import os
import subprocess
import sys

import pytest
from mpi_jobs import needs_mpi

from tpsim.comm import mpi

# As Slurm 22.05 sets them for two tasks, and MPICH 5's hydra for two ranks.
BATCH_SCRIPT = {"SLURM_NTASKS": "2", "SLURM_NPROCS": "2", "SLURM_PROCID": "0"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}
SRUN_PMI2 = {**SRUN, "PMI_FD": "11", "PMI_RANK": "1", "PMI_SIZE": "2"}
HYDRA = {"PMI_FD": "9", "PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}


def outside() -> dict[str, str]:
    ours = ("PMI", "MPI_", "OMPI_", "SLURM_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.mark.parametrize(
    ("variables", "inside", "rank"),
    [({}, False, 0), (BATCH_SCRIPT, False, 0), (SRUN, True, 1), (SRUN_PMI2, True, 1), (HYDRA, True, 1)],
    ids=["none", "sbatch", "srun", "srun --mpi=pmi2", "mpiexec"],
)
def test_a_launcher_is_known_by_its_variables(
    variables: dict[str, str], inside: bool, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**outside(), **variables})
    assert (mpi.under_mpiexec(), mpi.rank_of_job()) == (inside, rank)


@needs_mpi
def test_srun_without_pmi_is_told_of_rather_than_run_on_every_rank_alone() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "tpsim", "demo"],
        env={**outside(), **SRUN, "SLURM_PROCID": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode != 0
    assert "srun started 2 ranks and mpi4py sees one" in asked.stderr
    assert "start them with srun --mpi=pmi2, or with mpiexec" in asked.stderr
