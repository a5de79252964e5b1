"""Finding MPI, and ending an MPI job when a rank fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from tpsim.comm import watch
from tpsim.comm.errors import MPIUnavailableError
from tpsim.comm.tracebacks import from_main_on

_PATIENCE = 10.0  # seconds
_GRACE = 0.5

# What launchers set: the number of ranks (MPICH, Intel MPI, `srun --mpi=pmi2`; Open MPI), or only that there
# are some. Slurm's own variables tell of ranks only where srun starts several: batch scripts have them, too.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_LAUNCHED = (*_SIZES, *_RANKS, "MPI_LOCALNRANKS")

_REMEDY = "install it with: pip install 'tpsim[mpi]' (or mpi4py and mpich); virtual ranks need neither"


def under_mpiexec() -> bool:
    """Tell whether this process was started as a rank of an MPI job, by mpiexec or Slurm's srun."""
    return any(name in os.environ for name in _LAUNCHED) or _tasks_of_srun() > 1


def _tasks_of_srun() -> int:
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def rank_of_job() -> int:
    """Return this process's rank in its MPI job, 0 where there is none; MPI need not be there."""
    names = (*_RANKS, "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


def world() -> Any:
    """Return `MPI.COMM_WORLD`.

    Raises
    ------
    MPIUnavailableError
        If mpi4py, or the MPI library behind it, is missing: what to install, in one line. Also if
        mpiexec belongs to another MPI than mpi4py, or srun offers it nothing that it knows, so that
        each rank believes to be the only one.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py without a libmpi raises RuntimeError
        missing = "is not installed" if isinstance(error, ImportError) else "finds no MPI library"
        raise MPIUnavailableError(f"MPI: mpi4py {missing}; {_REMEDY}") from None
    started = next((os.environ[name] for name in _SIZES if name in os.environ), None)
    if MPI.COMM_WORLD.size == 1 and started is None and _tasks_of_srun() > 1:
        raise MPIUnavailableError(
            f"MPI: srun started {_tasks_of_srun()} ranks and mpi4py sees one: srun does not tell MPI of the "
            "others unless it is asked to; start them with srun --mpi=pmi2, or with mpiexec"
        )
    if MPI.COMM_WORLD.size == 1 and started not in (None, "1"):
        raise MPIUnavailableError(
            f"MPI: mpiexec started {started} ranks and mpi4py sees one: they belong to different MPI "
            f"libraries; use the mpiexec that is installed beside {sys.executable}"
        )
    return MPI.COMM_WORLD


def find_mpiexec() -> str:
    """Return the path of `mpiexec`: the one installed beside this Python, else the PATH's.

    Raises
    ------
    MPIUnavailableError
        If there is none.
    """
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("mpiexec")
    if found is None:
        raise MPIUnavailableError(
            f"mpiexec: not found beside {Path(sys.executable).name} or on PATH; {_REMEDY}"
        )
    return found


def start_again_under_mpiexec(ranks: int) -> int:
    """Run this very `tpsim` command once more, on `ranks` processes; return its exit code."""
    world()  # says what to install, if need be, before anything is started
    command = [find_mpiexec(), "-n", str(ranks), sys.executable, "-m", "tpsim", *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


def abort(comm: Any, error: BaseException) -> None:
    """End the whole job: print the traceback and this rank's number, then `MPI_Abort`.

    A rank that just raised would leave the others waiting for it until somebody looks. If several
    fail, the first one is told of: it is the cause of the others, or they all say the same.
    """
    if comm.size == 1 or (isinstance(error, SystemExit) and _all_exit(comm)):
        return
    if isinstance(error, SystemExit):
        code, text = (error.code, "") if isinstance(error.code, int) else (1, f"{error.code}\n")
        what = f"rank {comm.rank} of {comm.size} left by sys.exit({code})"
    else:
        code, text = 1, "".join(traceback.format_exception(from_main_on(error)))
        what = f"raised by rank {comm.rank} of {comm.size}"
    watch.end(f"raised {type(error).__name__}")
    if not watch.may_explain():
        time.sleep(_PATIENCE)  # long before, the job is ended by the rank that explains
    watch.end_job(comm, code, f"{text}[{what}; the whole job is ended]\n")


def _all_exit(comm: Any) -> bool:
    """Tell whether every rank calls `sys.exit` at about the same time: then nobody is left to be stopped."""
    everybody = comm.Ibarrier()
    deadline = time.monotonic() + _GRACE
    while not everybody.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def let_interrupts_kill() -> None:
    """Let Ctrl-C end this process at once, as it ends any program.

    mpiexec hands it to every rank. Python would raise KeyboardInterrupt once the rank is back from its
    MPI call, which it may never be.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
