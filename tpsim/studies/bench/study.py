"""All of a run: which sections, in what order, and what comes of it."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import tpsim
from tpsim.comm import mpi
from tpsim.studies.bench import blocks, collectives, memory, products, training
from tpsim.studies.bench.contenders import torch_python, without_mpi
from tpsim.studies.bench.machine import others_now, processor
from tpsim.studies.bench.resident import can_tell
from tpsim.studies.bench.result import Row, Section, worst
from tpsim.studies.bench.rounds import Effort, Say
from tpsim.studies.bench.targets import Finding, findings
from tpsim.studies.calibrate.profile import cores

SECTIONS = ("gemm", "block", "train", "collectives", "memory")
MUCH = 0.05
"""Of the cores: from this share that others use, figures are doubtful."""


@dataclass(frozen=True)
class Efforts:
    """How long to look in each section.

    Attributes
    ----------
    gemm, train, calls : Effort
        `calls` are collectives.
    blocks : mapping of Effort
        By size.
    sizes, operations : sequence
        Of collectives.
    """

    gemm: Effort
    blocks: Mapping[str, Effort]
    train: Effort
    calls: Effort
    sizes: Sequence[int] = collectives.SIZES
    operations: Sequence[str] = collectives.OPERATIONS


FULL = Efforts(
    gemm=Effort(rounds=7, burst=0.2),
    blocks={"small": Effort(rounds=10, burst=0.2), "big": Effort(rounds=11, burst=0.5)},
    train=Effort(rounds=6, burst=0.4),
    calls=Effort(rounds=9, burst=0.005),
)
QUICK = Efforts(
    gemm=Effort(rounds=2, burst=0.05),
    blocks={"small": Effort(rounds=4, burst=0.1), "big": Effort(rounds=2, burst=0.1)},
    train=Effort(rounds=3, burst=0.1),
    calls=Effort(rounds=3, burst=0.005),
    sizes=collectives.FEW,
    operations=("all_reduce",),
)


@dataclass(frozen=True)
class Machine:
    """Where and when it was measured.

    Attributes
    ----------
    processor, system : str
    cores : int
    date : str
        As 2026-01-31.
    versions : dict
        By the library's name.
    others_before : float or None
        The share of the cores that others used before anything began.
    """

    processor: str
    system: str
    cores: int
    date: str
    versions: dict[str, str]
    others_before: float | None


@dataclass(frozen=True)
class Bench:
    """What a run found.

    Attributes
    ----------
    machine : Machine
    sections : sequence of Section
    missing : sequence of str
        What could not be measured, why, and what to do.
    quick : bool
        Whether it looked only briefly.
    """

    machine: Machine
    sections: Sequence[Section]
    missing: Sequence[str] = ()
    quick: bool = False

    @property
    def rows(self) -> list[Row]:
        """Of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def findings(self) -> list[Finding]:
        """What the run says to all targets."""
        return findings(self.rows)

    @property
    def others(self) -> float | None:
        """The largest share of the cores that others used, in any section."""
        return worst([section.others for section in self.sections])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "machine": asdict(self.machine),
            "quick": self.quick,
            "missing": list(self.missing),
            "others": self.others,
            "sections": [section.to_dict() for section in self.sections],
            "targets": [finding.to_dict() for finding in self.findings],
        }


def chosen(only: str | None) -> tuple[str, ...]:
    """Return the sections of a list like "gemm,block"; all by default.

    Raises
    ------
    ValueError
        If one is not known.
    """
    names = SECTIONS if only is None else tuple(name.strip() for name in only.split(","))
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise ValueError(f"--only {only}: {unknown[0]!r} is no section; pick from {', '.join(SECTIONS)}")
    return names


def bench(
    sections: Sequence[str] = SECTIONS,
    *,
    against_torch: bool = False,
    python: str | None = None,
    quick: bool = False,
    say: Say = lambda words: None,
) -> Bench:
    """Measure this machine.

    Parameters
    ----------
    sections : sequence of str
        Of `SECTIONS`.
    against_torch : bool
        Whether the block runs in PyTorch too.
    python : str, optional
        The Python that has torch, as for `torch_python`.
    quick : bool
        Look briefly.
    say : callable
        Is told what is going on.

    Raises
    ------
    ValueError
        If there is no torch, or this is an MPI job itself.
    BenchError
        If a worker fails.
    """
    if mpi.under_mpiexec():
        raise ValueError("bench: mpiexec started this, and it starts its own ranks; run it without mpiexec")
    versions = {"tpsim": tpsim.__version__, "Python": platform.python_version(), "NumPy": np.__version__}
    torch = None
    if against_torch:
        torch, versions["torch"] = torch_python(python)
    why_not = without_mpi()
    have_mpi, effort = not why_not, QUICK if quick else FULL
    runs: dict[str, Callable[[], Section]] = {
        "gemm": lambda: products.section(effort.gemm, say),
        "block": lambda: blocks.section(effort.blocks, say, mpi=have_mpi, torch=torch),
        "train": lambda: training.section(effort.train, say, mpi=have_mpi),
        "collectives": lambda: collectives.section(
            effort.calls, say, mpi=have_mpi, sizes=effort.sizes, operations=effort.operations
        ),
        "memory": lambda: memory.section(say),
    }
    machine = Machine(
        processor=processor(),
        system=platform.system(),
        cores=cores(),
        date=datetime.date.today().isoformat(),
        versions=versions,
        others_before=others_now(),
    )
    missing = [f"rows under mpiexec are left out: {why_not}"] if why_not else []
    if "memory" in sections and not can_tell():
        missing.append(
            f"memory is left out: {machine.system} does not tell what a process holds; run it on Linux"
        )
        del runs["memory"]
    found = [runs[name]() for name in SECTIONS if name in sections and name in runs]
    return Bench(machine, found, missing, quick)
