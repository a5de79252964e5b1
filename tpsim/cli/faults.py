"""The options of commands that run ranks: faults on purpose, and what to say when communication fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tpsim.comm.faults.fault import Event, Fault

FAULT_HELP = (
    'Strike a rank, such as "rank=2 at=collective:17 kind=crash" (or stall, corrupt, drop, slow); '
    "may be given several times."
)
TimeoutOption = Annotated[
    float | None,
    typer.Option(min=0, help="Under mpiexec: seconds after which a call hangs; 0: never (30)."),
]
FaultOption = Annotated[list[str] | None, typer.Option("--fault", help=FAULT_HELP)]


def faults_of(texts: Sequence[str] | None, ranks: int, events: Sequence[Event]) -> list[Fault]:
    """Return the faults that are asked for; `events` are those that are counted.

    Raises
    ------
    ValueError
        If one of them can't be.
    """
    from tpsim.comm.faults import parse

    return [parse(text, ranks, events) for text in texts or ()]


def refuse_endless(faults: Sequence[Fault]) -> None:
    """Raise ValueError if a fault would keep a job that nobody watches from ever ending."""
    for fault in faults:
        if fault.kind in ("stall", "drop"):
            raise ValueError(
                f"fault {str(fault)!r}: under mpiexec the job would never end, for with --check none or "
                "--timeout 0 nobody watches it; leave that out"
            )


def tell_missed(sentence: str) -> None:
    """Print that a fault did not strike."""
    print(f"tpsim: {sentence}", file=sys.stderr)


@contextmanager
def failures_told(remedy: str = "") -> Iterator[None]:
    """Print what went wrong between virtual ranks, without a traceback; the exit code is 1."""
    from tpsim.comm.errors import CommError, Crash

    try:
        yield
    except (CommError, Crash) as error:
        notes = getattr(error, "__notes__", [])
        print("\n".join([f"tpsim: {error}", *notes, *([remedy] if remedy else [])]), file=sys.stderr)
        raise typer.Exit(1) from None
