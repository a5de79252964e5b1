"""The board of an MPI job: a small file in which the ranks of a host tell each other where they stand.

A rank whose call hangs can't ask the others by MPI: they are elsewhere. It asks here, and their
watchdog threads answer. Nothing is written as long as nobody asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":
    import fcntl

_ROW_BYTES = 4096


class Row(NamedTuple):
    """Where a rank stands."""

    doing: str
    """Its call, or what else it does."""
    line: str = ""
    seconds: float | None = None
    """How long it has been in its call; None outside of calls."""
    operation: str = ""
    """The call's."""
    needs: tuple[int, ...] | None = ()
    """World ranks without which the call can't complete; None: everybody."""
    stack: tuple[str, ...] = ()
    """The lines of code that it is in, the innermost last."""
    struck: bool = False
    """Whether a fault, which was asked for, is why it does not go on."""


RUNNING = "running"
UNKNOWN = Row("not known here: on another host, or in no group with this rank")


class Board:
    """One row a rank, and one before them to ask by.

    Parameters
    ----------
    path : str
        The file; every rank opens it, then every rank calls `hide`.
    ranks : sequence of int
        World ranks, by rank in the communicator that the board is for.
    rank : int
        This process's world rank.
    """

    def __init__(self, path: str, ranks: Sequence[int], rank: int) -> None:
        self.path = path
        self.ranks = tuple(ranks)
        self._seat = self.ranks.index(rank) + 1
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def hide(self) -> None:
        """Remove the file's name: what is open stays, and nothing is left behind however the job ends."""
        with contextlib.suppress(FileNotFoundError):  # the first rank of a host does it
            Path(self.path).unlink()

    def write(self, row: Row) -> None:
        """Fill this rank's row."""
        text = json.dumps(row)
        if len(text) > _ROW_BYTES:
            row = row._replace(doing=f"{row.doing[:200]} …", line=row.line[-200:], needs=(), stack=())
            text = json.dumps(row)
        os.pwrite(self._file, text.encode().ljust(_ROW_BYTES), self._seat * _ROW_BYTES)

    def read(self) -> dict[int, Row]:
        """Return the rows of all ranks on this host."""
        rows = {}
        for seat, rank in enumerate(self.ranks, start=1):
            text = os.pread(self._file, _ROW_BYTES, seat * _ROW_BYTES)
            if text.strip(b" \0"):
                rows[rank] = Row(*json.loads(text))
        return rows

    def ask(self, question: bool) -> None:
        """Ask every rank for its row, or no longer."""
        os.pwrite(self._file, b"?" if question else b" ", 0)

    @property
    def asked(self) -> bool:
        """Whether somebody wants to know."""
        return os.pread(self._file, 1, 0) == b"?"

    def take(self) -> bool:
        """Return whether this process may explain what went wrong: the first one that asks."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def give_back(self) -> None:
        """Let another process explain."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)
