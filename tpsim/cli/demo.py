"""`tpsim demo`: a transformer block on t ranks, equal to the unsharded maths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tpsim.cli.faults import TimeoutOption
from tpsim.cli.trace_file import check_trace_file
from tpsim.cli.usage import UsageError, usage_errors


def demo(
    context: typer.Context,
    ranks: Annotated[int | None, typer.Option(help="How many ranks (4, or mpiexec's number).")] = None,
    sp: Annotated[bool, typer.Option("--sp", help="Sequence parallelism too.")] = False,
    keep_gathered: Annotated[
        bool, typer.Option("--keep-gathered", help="With --sp: keep gathered inputs for backward.")
    ] = False,
    world: Annotated[
        str | None, typer.Option(help="virtual: ranks in this process; mpi: processes under mpiexec.")
    ] = None,
    algorithm: Annotated[
        str, typer.Option(help="ring, recursive_doubling, rabenseifner, tree, rank_order, mpi.")
    ] = "ring",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    batch: Annotated[int, typer.Option(help="Sequences.")] = 2,
    seq: Annotated[int, typer.Option(help="Positions a sequence.")] = 48,
    hidden: Annotated[int, typer.Option(help="Width; the MLP's is 4 times that.")] = 192,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 24,
    seed: Annotated[int, typer.Option(help="Of weights and inputs.")] = 0,
    steps: Annotated[
        bool, typer.Option("--steps", help="Show a tiny MLP's run step by step; takes --ranks, --sp, --seed.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the pictures (figures; with --steps, none).")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="File for a Chrome trace: open it on ui.perfetto.dev.")
    ] = None,
    timeout: TimeoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and draw nothing.")] = False,
) -> None:
    """Run a transformer block on several ranks, forward and backward.

    Shows that it equals the unsharded maths, what each rank holds, sends and saves, and draws
    demo_comm.png and demo_memory.png. Also: mpiexec -n 4 tpsim demo
    """
    from tpsim.comm import launch, mpi

    inside = mpi.under_mpiexec()
    if world not in (None, "virtual", "mpi"):
        raise UsageError(f"world {world!r} is not known; pick virtual or mpi")
    if world == "virtual" and inside:
        raise UsageError("mpiexec started this, and --world virtual was asked for; leave out one of the two")
    with usage_errors():
        check_trace_file(trace)
        started = mpi.world().size if inside else 4
        if inside and ranks not in (None, started):
            raise ValueError(f"mpiexec started {started} ranks and --ranks says {ranks}; leave --ranks out")
        if steps:
            from tpsim.cli.steps import check_options, show_steps

            check_options(context)
            count = started if ranks is None else ranks
            if world == "mpi" and not inside:
                raise typer.Exit(mpi.start_again_under_mpiexec(count))
            show_steps(count, sp, seed, figures, as_json)
            return
        from tpsim.studies.demo import DemoConfig, compare, on_rank

        config = DemoConfig(
            ranks=started if ranks is None else ranks,
            batch=batch,
            seq=seq,
            hidden=hidden,
            heads=heads,
            dtype=dtype,
            algorithm=algorithm,
            sequence_parallel=sp,
            keep_gathered=keep_gathered,
            seed=seed,
        )
        if world == "mpi" and not inside:
            raise typer.Exit(mpi.start_again_under_mpiexec(config.ranks))
    try:
        reports = launch(on_rank, config.ranks, config, trace is not None, timeout=timeout)
    except MemoryError:
        raise UsageError(
            "this block does not fit the machine's memory; pick a smaller --batch, --seq or --hidden"
        ) from None
    if mpi.rank_of_job() != 0:
        return
    result = compare(config, "mpi" if inside else "virtual", reports)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result, figures or Path("figures"))
    if trace is not None:
        _write(result, trace, quiet=as_json)
    if not (result.equal and result.sent_as_predicted and result.saved_as_predicted):
        raise typer.Exit(1)


def _show(result: Any, figures: Path) -> None:
    from rich.console import Console

    from tpsim import plots
    from tpsim.cli.demo_tables import render

    console = Console()
    for part in render(result):
        console.print(part)
    drawings = {
        "demo_comm.png": plots.communication(result.traces),
        "demo_memory.png": plots.memory(result.traces, result.one_device),
    }
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for name, figure in drawings.items():
            figure.savefig(figures / name)
            console.print(f"drawn: {figures / name}", soft_wrap=True)
    except OSError as error:
        raise UsageError(
            f"figures can't be written to {figures} ({error.strerror}); pass --figures with a folder that can"
        ) from None


def _write(result: Any, path: Path, *, quiet: bool) -> None:
    from rich.console import Console

    from tpsim.trace.chrome import write
    from tpsim.trace.slices import from_traces

    write(path, from_traces([[trace] for trace in result.traces]))
    Console(quiet=quiet).print(f"written: {path}", soft_wrap=True)
