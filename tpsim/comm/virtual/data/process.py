"""What an MPI library keeps for each process, and so virtual ranks for each rank that runs a script.

`mpi_module` gives each rank a `Process`; the rank whose `mpi4py.MPI` is in `sys.modules` is the one
that runs. Ranks that run no script (`tpsim.run`) share one.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from math import inf

from tpsim.comm.mpi_errors import ErrorCodes
from tpsim.comm.virtual.data.pickling import Pickle

MOST = 32
"""How many reductions, and error handlers of a kind, mpi4py lets a process create."""


class Process:
    """One rank's library.

    Parameters
    ----------
    most : int
        How many reductions, and error handlers of a kind, may be there at a time.

    Attributes
    ----------
    pickle : Pickle
        `MPI.pickle`.
    codes : ErrorCodes
        Error codes, with those that the rank added.
    finalized : bool
        Whether `MPI.Finalize` was called.
    thread : int
        The thread that runs the program.
    """

    def __init__(self, most: float = MOST) -> None:
        self._most = most
        self.pickle = Pickle()
        self.codes = ErrorCodes()
        self.finalized = False
        self.thread = threading.get_ident()
        self._created: Counter[str] = Counter()

    def admit(self, what: str, created: Limited) -> None:
        """Count one more thing of a kind of which a process may have only so many at a time."""
        if self._created[what] >= self._most:
            raise RuntimeError(
                f"Create: this rank has {self._most} {what} already, and mpi4py allows no more; "
                "Free those that are done with, or create them once and keep them"
            )
        self._created[what] += 1
        created.counted = (self, what)

    def dismiss(self, what: str) -> None:
        """Count one less."""
        self._created[what] -= 1


class Limited:
    """Something of which a process may have only so many at a time."""

    __slots__ = ("__weakref__", "counted")

    def __init__(self) -> None:
        self.counted: tuple[Process, str] | None = None

    def release(self) -> None:
        """Count it no longer."""
        if self.counted is not None:
            process, what = self.counted
            self.counted = None
            process.dismiss(what)


_SHARED = Process(most=inf)  # of as many ranks as there are


def current_process() -> Process:
    """Return the process of the rank that runs."""
    process: Process = getattr(sys.modules.get("mpi4py.MPI"), "_process", _SHARED)
    return process
