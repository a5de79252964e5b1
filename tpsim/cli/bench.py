"""`tpsim bench`: how fast this machine computes, and how near tpsim comes to that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpsim.cli.usage import UsageError, usage_errors

if TYPE_CHECKING:
    from tpsim.studies.bench.study import Bench


def bench(
    only: Annotated[str | None, typer.Option(help="Of gemm,block,train,collectives,memory.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look briefly: less than a minute.")] = False,
    against: Annotated[str | None, typer.Option(help="torch: run the block in PyTorch too.")] = None,
    torch_python: Annotated[
        str | None,
        typer.Option(help="The python of an environment that has torch (or TPSIM_TORCH_PYTHON); this one."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if a target is missed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every row.")] = False,
    figure: Annotated[
        Path | None, typer.Option("--plot", help="Draw all of it: a .png, .svg or .pdf.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Put a summary into this file, between its two marker comments.")
    ] = None,
) -> None:
    """Measure products, a block, training steps, collectives and memory, and hold them against targets.

    Contenders take turns, and figures are medians. It takes some minutes, in which the machine should have
    nothing else to do.
    """
    if against not in (None, "torch"):
        raise UsageError(f"--against {against} is not known; torch is, or leave it out")
    with usage_errors():
        from tpsim.studies.bench import readme
        from tpsim.studies.bench.crew import BenchError
        from tpsim.studies.bench.study import bench as study
        from tpsim.studies.bench.study import chosen

        sections = chosen(only)
        if write is not None:
            readme.check(write)
        if figure is not None:
            _check_figure(figure)
        try:
            found = _watched(study, sections, against == "torch", torch_python, quick)
        except BenchError as error:
            raise UsageError(str(error)) from None
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        _show(found)
    if write is not None:
        readme.write(write, found)
        typer.echo(f"written: {write}", err=as_json)
    if figure is not None:
        from tpsim import plots

        plots.bench([section.to_dict() for section in found.sections]).savefig(figure)
        typer.echo(f"drawn: {figure}", err=as_json)
    if check and any(finding.holds is False for finding in found.findings):
        raise typer.Exit(1)


def _watched(study: Any, sections: Any, against_torch: bool, python: str | None, quick: bool) -> Bench:
    """Run the study, with a line on stderr that says what is going on, where somebody looks."""
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        found: Bench = study(
            sections,
            against_torch=against_torch,
            python=python,
            quick=quick,
            say=lambda words: status.update(words),
        )
    return found


def _check_figure(path: Path) -> None:
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(
            f"--plot {path}: {path.suffix or 'no ending'} is no kind of picture; end it in .png or .svg"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--plot {path}: its folder is not there; pick one that is")


def _show(found: Bench) -> None:
    from rich.console import Console

    from tpsim.cli.bench_tables import render

    console = Console(highlight=False)
    for part in render(found):
        console.print(part)
