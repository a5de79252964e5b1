"""Running a script under mpiexec, from a test."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tpsim.comm import MPIUnavailableError, mpi

SCRIPTS = Path(__file__).parent / "mpi"
MISTAKES = Path(__file__).parent / "mistakes"


def _why_not() -> str:
    """Return what is missing; tried in another process, since importing MPI starts it."""
    try:
        mpi.find_mpiexec()
    except MPIUnavailableError as error:
        return str(error)
    ask = "from tpsim.comm import mpi; mpi.world()"
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return asked.stderr.strip().rpartition("\n")[2] if asked.returncode else ""


WHY_NOT = _why_not()
needs_mpi = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@dataclass
class Job:
    """A job that has ended."""

    code: int
    out: str
    err: str
    seconds: float


def mpiexec(
    ranks: int,
    *command: str | Path,
    tmp: Path,
    timeout: float = 60.0,
    interrupt_after: float | None = None,
    **env: str,
) -> Job:
    """Run `python *command` on `ranks` ranks, and see that neither processes nor files in `tmp` are left."""
    name = uuid.uuid4().hex
    began = time.monotonic()
    job = subprocess.Popen(
        [mpi.find_mpiexec(), "-n", str(ranks), sys.executable, *map(str, command)],
        env={**os.environ, "TPSIM_TEST_JOB": name, "TMPDIR": str(tmp), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            job.send_signal(signal.SIGINT)
        out, err = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpiexec ends its ranks
        out, err = job.communicate()
        pytest.fail(f"hangs: {command}\n{out}\n{err}")
    done = Job(job.returncode, out, err, time.monotonic() - began)
    assert not _survivors(name)
    assert not list(tmp.iterdir())
    return done


def _survivors(name: str) -> list[str]:
    """Return the processes of a job that still run a moment after its end (known on Linux only)."""
    left: list[str] = []
    for _ in range(20):
        left = [process.name for process in Path("/proc").glob("[0-9]*") if _belongs(process, name)]
        if not left:
            break
        time.sleep(0.1)
    return left


def _belongs(process: Path, name: str) -> bool:
    try:
        return name.encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def load(script: Path) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
