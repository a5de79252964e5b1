"""`tpsim calibrate`: this machine as a hardware profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tpsim.cli.usage import UsageError, usage_errors


def calibrate(
    ranks: Annotated[int, typer.Option(help="Processes that work at the same time.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and turns, and float32 alone.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Measure training steps too, and hold predictions against them.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where to write the profile.")] = Path("machine.json"),
) -> None:
    """Measure products, passes over arrays and collectives of this machine; write a profile of it.

    Then: tpsim estimate tiny-gpt --hardware machine.json --stack numpy --tp 1,2. All ranks work at once, each
    with one BLAS thread, as in a run under mpiexec.
    """
    from tpsim.comm import MPIUnavailableError, launch, mpi

    if ranks < 1:
        raise UsageError(f"--ranks {ranks} is no number of processes; pick 1 or more")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out} is no place for a file; pick one in a folder that is there")
    missing = ""
    if ranks > 1 and not mpi.under_mpiexec():
        try:
            raise typer.Exit(mpi.start_again_under_mpiexec(ranks))
        except MPIUnavailableError as error:
            missing = str(error)
    if check and not mpi.under_mpiexec():
        reason = missing or f"and --ranks {ranks} starts none"
        raise UsageError(f"--check measures training steps of MPI processes: {reason}; leave --check out")
    with usage_errors():
        from tpsim.studies.calibrate import FULL, QUICK
        from tpsim.studies.calibrate import calibrate as study

        found = study(QUICK if quick else FULL, ranks=max(ranks, 2))
    comparisons = []
    if check:
        from tpsim.studies.validate.machine import steps

        comparisons = launch(steps, None, found.hardware)[0]
    if mpi.rank_of_job() == 0:
        _show(found, comparisons, missing)
        _write(found.profile, out)


def _show(found: Any, comparisons: Any, missing: str) -> None:
    from rich.console import Console

    from tpsim.cli.calibrate_tables import render

    console = Console()
    for part in render(found, comparisons):
        console.print(part)
    if missing:
        console.print(f"Collectives are those of virtual ranks. {missing}", soft_wrap=True, highlight=False)


def _write(profile: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(profile, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path} can't be written ({error.strerror}); pick a place that can") from None
    print(f"written: {path}")
