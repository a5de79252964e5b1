"""mpi4py programs print the same on virtual ranks as under mpiexec, unmodified."""

from pathlib import Path

import pytest
from mpi_jobs import mpiexec, needs_mpi

from tpsim.script.job import Options, run_job
from tpsim.script.program import Script

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
RANKS = 4
each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)


@each_program
def test_a_program_knows_nothing_of_tpsim(program: Path) -> None:
    source = program.read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert "\nfrom mpi4py import MPI\n" in source
    assert "tpsim" not in source


@needs_mpi
@each_program
def test_a_program_prints_the_same_in_both_worlds(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_job(Script(str(program), []), Options(RANKS))
    printed = capsys.readouterr()
    job = mpiexec(RANKS, "-W", "error", program, tmp=tmp_path, PYTHONUNBUFFERED="")  # whole lines at once
    assert (code, printed.err) == (job.code, job.err) == (0, "")
    assert sorted(printed.out.splitlines()) == sorted(job.out.splitlines())
