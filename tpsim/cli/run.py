"""`tpsim run`: an mpi4py program, as it is, on virtual ranks."""

from __future__ import annotations

import sys
import threading
import traceback
from pathlib import Path
from typing import Annotated

import typer

from tpsim.cli.faults import FaultOption, faults_of
from tpsim.cli.trace_file import check_trace_file
from tpsim.cli.usage import UsageError, usage_errors

# Everything after the program's name is the program's own.
SETTINGS = {"allow_interspersed_args": False, "ignore_unknown_options": False}


def run(
    program: Annotated[list[str], typer.Argument(metavar="SCRIPT", help="The script, and its arguments.")],
    ranks: Annotated[int | None, typer.Option("-n", "-np", "--ranks", help="How many; needed.")] = None,
    module: Annotated[
        bool, typer.Option("-m", help="The program is a module's name, as after python -m.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which the run is ended, and where each rank stands is printed."),
    ] = None,
    eager: Annotated[
        int,
        typer.Option(
            help="Bytes up to which a send is buffered; 0 finds programs that only work by buffering."
        ),
    ] = 1 << 16,
    check: Annotated[
        bool, typer.Option("--check", help="Find buffers that are changed while they are in flight.")
    ] = False,
    prefix: Annotated[
        bool, typer.Option("--prefix", "-l", help="Begin each line of output with its rank.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write what each rank called as a Chrome trace, for ui.perfetto.dev.")
    ] = None,
    fault: FaultOption = None,
) -> None:
    """Run an mpi4py script on virtual ranks: no MPI and no mpi4py needed.

    Options stand before the program; what follows it is the program's own.
    Where the program would hang, and at Ctrl-C, it says where each rank stands.
    Windows, files and new processes are left out; the README has the list.
    The exit code is mpiexec's: 0, what sys.exit or Abort was given, or 1.
    """
    from tpsim.script.job import Options, run_job
    from tpsim.script.program import ProgramError, named
    from tpsim.script.session import check_number

    name, *args = program
    if ranks is None:
        wanted = f"tpsim run -n 4 {'-m ' if module else ''}{name}"
        raise UsageError(f"run: it is not said how many ranks; say it before the program, as in {wanted}")
    if timeout is not None and not 0 < timeout <= threading.TIMEOUT_MAX:
        raise UsageError(f"run: --timeout {timeout:g} is no time; pass seconds, such as 10")
    if eager < 0:
        raise UsageError(f"run: --eager {eager} is not a number of bytes; pass 0 or more")
    with usage_errors():
        check_number(ranks, f"run: -n {ranks}")
        check_trace_file(trace)
        faults_of(fault, ranks, ("collective", "message"))
    try:
        what = named(name, args, module=module)
    except ProgramError as error:
        raise UsageError(str(error)) from None
    except SyntaxError as error:
        print(*traceback.format_exception_only(error), sep="", end="", file=sys.stderr)
        raise typer.Exit(1) from None
    raise typer.Exit(run_job(what, Options(ranks, timeout, eager, check, prefix, trace, fault or ())))
