"""How the command line says that an argument is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UsageError(Exception):
    """A wrong argument: what was asked, why it can't be, what to do."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn the ValueErrors of checking arguments, and a missing MPI, into usage errors."""
    from tpsim.comm.errors import MPIUnavailableError

    try:
        yield
    except (ValueError, MPIUnavailableError) as error:
        raise UsageError(str(error)) from None


def numbers(text: str) -> list[int]:
    """Return the numbers of a list like 1,2,4."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"ranks {text!r} is not a list of numbers; write them like 1,2,4") from None


def tell(error: Any) -> None:
    """Print what is wrong in one line; under mpiexec all ranks have it, and one prints it."""
    from tpsim.comm.mpi import rank_of_job

    if rank_of_job() != 0:
        return
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tpsim"
    text = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split())
    remedy = "" if isinstance(error, UsageError) else f"; see {command} --help"
    print(f"{command}: {text.rstrip('.')}{remedy}", file=sys.stderr)
