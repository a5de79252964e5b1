"""Who takes part: how many processes, started how, and what each rank is called."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tpsim
from tpsim.comm import MPIUnavailableError, mpi
from tpsim.studies.calibrate.profile import cores

TORCH_PYTHON = "TPSIM_TORCH_PYTHON"
_IN_ANOTHER_PYTHON = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tpsim.studies.bench import torch_ranks; "
    "del sys.path[0]; torch_ranks.main(sys.argv[2])"
)
"""Finds tpsim beside the packages of that Python, and none of those that tpsim itself uses."""


@dataclass(frozen=True)
class Contender:
    """Ranks that work together.

    Attributes
    ----------
    name : str
        As tables have it.
    command : tuple of str
        Starts its worker, or mpiexec.
    connections : int
        How many workers will call: 1 for virtual ranks, which share a process.
    cores : int
        On how many cores it computes.
    copies : tuple of mapping
        The environment's additions of each process to start; one, unless nobody else starts the ranks.
    """

    name: str
    command: tuple[str, ...]
    connections: int = 1
    cores: int = 1
    copies: tuple[Mapping[str, str], ...] = field(default=({},))


def virtual(
    name: str, ranks: int, schedule: Literal["lockstep", "free"] = "lockstep", threads: int | None = 1
) -> Contender:
    """Return virtual ranks of one process; `threads` of BLAS each, None for as many as there are cores."""
    busy = ranks if schedule == "free" else 1
    return Contender(
        name,
        _ranks(ranks, schedule, threads),
        cores=min(busy * (threads or cores()), cores()),
    )


def processes(name: str, ranks: int) -> Contender:
    """Return ranks under mpiexec, one BLAS thread each."""
    command = (mpi.find_mpiexec(), "-n", str(ranks), *_ranks(ranks, "lockstep", 1))
    return Contender(name, command, ranks, min(ranks, cores()))


def _ranks(ranks: int, schedule: str, threads: int | None) -> tuple[str, ...]:
    module = "tpsim.studies.bench.ranks"
    return sys.executable, "-m", module, str(ranks), schedule, "all" if threads is None else str(threads)


def torch_alone(name: str, python: str, threads: int | None) -> Contender:
    """Return one process of PyTorch; `threads` None for as many as there are cores."""
    return Contender(name, _torch(python, threads), cores=threads or cores())


def torch_ranks(name: str, python: str, ranks: int, port: int) -> Contender:
    """Return ranks of PyTorch that talk by gloo, one thread each; `port` is one that is free."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    if os.name == "posix":
        meeting["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    copies = tuple({**meeting, "RANK": str(rank)} for rank in range(ranks))
    return Contender(name, _torch(python, 1), ranks, min(ranks, cores()), copies)


def _torch(python: str, threads: int | None) -> tuple[str, ...]:
    folder = Path(tpsim.__file__).parent.parent
    return python, "-c", _IN_ANOTHER_PYTHON, str(folder), "all" if threads is None else str(threads)


def without_mpi() -> str:
    """Return why nothing can run under mpiexec, and what to install; "" if it can."""
    try:
        mpi.find_mpiexec()
        mpi.world()
    except MPIUnavailableError as error:
        return str(error)
    return ""


def torch_python(asked: str | None) -> tuple[str, str]:
    """Return a Python that has torch, and torch's version there.

    Parameters
    ----------
    asked : str, optional
        By default the environment's TPSIM_TORCH_PYTHON, else this Python.

    Raises
    ------
    ValueError
        If it has none.
    """
    python = asked or os.environ.get(TORCH_PYTHON) or sys.executable
    try:
        found = subprocess.run(
            [python, "-c", "import torch; print(torch.__version__)"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ValueError(
            f"--torch-python {python}: it can't be started ({error.strerror}); pass the python of an "
            "environment with torch"
        ) from None
    if found.returncode:
        raise ValueError(
            f"--against torch: {Path(python).name} has no torch ({found.stderr.strip().splitlines()[-1]}); "
            f"install it with: pip install torch, or name the python of an environment that has it, with "
            f"--torch-python or {TORCH_PYTHON}"
        )
    return python, found.stdout.strip()


def free_port() -> int:
    """Return a TCP port that nobody listens to."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
