"""`tpsim demo --steps`: a run shown step by step, and drawn where a folder is given."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from tpsim.cli.usage import UsageError

_TAKEN = {"ranks", "sp", "seed", "steps", "figures", "as_json", "world"}


def check_options(context: typer.Context) -> None:
    """Refuse what has no effect on the step-through.

    Raises
    ------
    ValueError
        If the command line sets anything else of the demo's.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in _TAKEN and source is not None and source.name == "COMMANDLINE":
            raise ValueError(
                f"{parameter.opts[0]} is the block's, and --steps runs an MLP of a fixed size; leave one of "
                "the two out"
            )


def show_steps(ranks: int, sp: bool, seed: int, figures: Path | None, as_json: bool) -> None:
    """Run the step-through, on virtual ranks or under mpiexec, and print it.

    Raises
    ------
    ValueError
        If so many ranks can't be shown.
    """
    from tpsim.comm import launch, mpi
    from tpsim.studies.steps import StepsConfig, join, on_rank

    config = StepsConfig(ranks, sp, seed)
    reports = launch(on_rank, ranks, config)
    if mpi.rank_of_job() != 0:
        return
    result = join(config, reports)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        from rich.console import Console

        from tpsim.cli.steps_tables import render

        console = Console()
        for part in render(result):
            console.print(part)
    if figures is not None and not as_json:
        from tpsim.plots.picture import save
        from tpsim.studies.steps_figures import draw

        try:
            for name, figure in draw(result).items():
                save(figure, name, figures)
        except OSError as error:
            raise UsageError(
                f"figures can't be written to {figures} ({error.strerror}); pass --figures with a folder "
                "that can"
            ) from None
    if not result.equal:
        raise typer.Exit(1)
