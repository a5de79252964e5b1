"""Memory of a training step: what the process holds at most, against what its trace counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpsim.studies.bench.blocks import RANK
from tpsim.studies.bench.contenders import virtual
from tpsim.studies.bench.crew import Crew
from tpsim.studies.bench.result import Row, Section
from tpsim.studies.bench.rounds import Say
from tpsim.studies.bench.training import JOBS, Job

COUNTED = ("weights", "gradients", "optimizer", "activations", "statistics", "working")


def section(say: Say, jobs: Sequence[Job] = JOBS) -> Section:
    """Measure each job in a process of its own."""
    rows = []
    for job in jobs:
        say(f"{job.name}: memory of a step")
        with Crew([virtual(RANK, 1)]) as crew:
            crew.tell(RANK, "prepare", job.name, "memory", job.arguments())
            found = crew.tell(RANK, "ask", job.name)[0]
        rows.append(row(job.name, found))
    return Section("memory", rows)


def row(what: str, found: dict[str, Any]) -> Row:
    """Return a row of what `programs.memory` found."""
    counted = sum(found["counted"][part] for part in COUNTED)
    return Row("memory", what, RANK, found["held"], unit="B", bound=counted)
