"""Notebook cells on virtual ranks: `%load_ext tpsim`, then `%%ranks 4` at the head of a cell.

Each rank has variables of its own, which it keeps from cell to cell.
"""

from __future__ import annotations

import ast
import atexit
import contextvars
import itertools
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, TextIO

from tpsim.comm.virtual import VirtualComm
from tpsim.script.ctrl_c import Interrupted, interruptible
from tpsim.script.report import report
from tpsim.script.session import Session, check_number
from tpsim.script.waiting_ranks import WaitingRanks, done, without_waiting

_numbers = itertools.count(1)
Cell = tuple[CodeType, CodeType | None]


class CellError(Exception):
    """A cell failed on a rank. Its text is the whole report; IPython shows that alone."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class RankCells:
    """Ranks that run one cell after the other.

    Each finds `MPI`, `comm` (its COMM_WORLD), `rank` and `size` in its variables. After a cell that fails
    ranks keep their variables, but for communicators: COMM_WORLD is a new one.

    Parameters
    ----------
    ranks : int
        How many.
    """

    def __init__(self, ranks: int) -> None:
        check_number(ranks, f"ranks: {ranks}")
        self._count = ranks
        self._mains = [ModuleType("__main__") for _ in range(ranks)]
        self._ranks: WaitingRanks | None = None
        self._context = contextvars.copy_context()
        atexit.register(self.close)

    def run(self, source: str) -> None:
        """Run a cell on every rank; the value of a last line that is an expression is printed.

        Raises
        ------
        SyntaxError
            If the cell isn't Python.
        CellError
            If it fails on a rank, or is interrupted.
        """
        cell = _compiled(source)
        self._context = contextvars.copy_context()
        if self._ranks is None or not self._ranks.alive:
            self._ranks = self._begin()
        try:
            with interruptible(self._ranks.world):
                self._ranks.do(cell)
            left = self._ranks.left
        except Interrupted as stop:
            raise CellError(done(str(stop))) from None
        except (Exception, SystemExit) as error:
            raise CellError(without_waiting(report(error).rstrip())) from None
        if left is not None:
            raise CellError(left)

    def close(self) -> None:
        """End the ranks."""
        atexit.unregister(self.close)
        if self._ranks is not None:
            self._ranks.close()

    def _begin(self) -> WaitingRanks:
        out, err = (_Now(stream, lambda: self._context) for stream in (sys.stdout, sys.stderr))
        return WaitingRanks(Session(self._count, prefix=True, stdout=out, stderr=err), self._live)

    def _live(self, comm: VirtualComm, next_cell: Callable[[], Cell | None]) -> None:
        main = self._mains[comm.rank]
        mpi = sys.modules["mpi4py"].MPI
        vars(main).update(MPI=mpi, comm=comm, rank=comm.rank, size=comm.size)
        sys.modules["__main__"] = main
        while (cell := next_cell()) is not None:
            body, last = cell
            exec(body, vars(main))
            if last is not None:
                value = eval(last, vars(main))
                if value is not None:
                    print(repr(value))


class _Now:
    """A stream, written to in the context of the running cell: so Jupyter knows whose output it is."""

    def __init__(self, stream: TextIO, context: Callable[[], contextvars.Context]) -> None:
        self._stream = stream
        self._context = context

    def write(self, text: str) -> int:
        return self._context().run(self._stream.write, text)

    def flush(self) -> None:
        self._context().run(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def _compiled(source: str) -> Cell:
    """Return a cell's code, and that of its last line where this is an expression."""
    name = f"<cell {next(_numbers)} of ranks>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        return compile(tree, name, "exec"), None
    tree.body.pop()
    return compile(tree, name, "exec"), compile(ast.Expression(last.value), name, "eval")


# -- IPython -------------------------------------------------------------------------------------------------


_FOREIGN = "ranks run Python alone; write lines that begin with % or ! in a cell without %%ranks"


class RanksMagic:
    """The cell magic: `%%ranks 4`. There is one set of ranks for each number of them."""

    def __init__(self) -> None:
        self.sets: dict[int, RankCells] = {}

    def __call__(self, line: str, cell: str) -> None:
        """Run a cell on virtual ranks."""
        try:
            self._of(line).run(cell)
        except SyntaxError as error:
            said = "".join(traceback.format_exception_only(error)).rstrip()
            foreign = any(one.startswith(("%", "!")) for one in cell.splitlines())
            raise CellError(f"{said}\n{_FOREIGN}" if foreign else said) from None

    def _of(self, line: str) -> RankCells:
        if not re.fullmatch(r"-?\d+", line.strip()):
            asked = f"{line!r} is not a number of ranks" if line else "no number of ranks is given"
            raise CellError(f"%%ranks: {asked}; write %%ranks 4")
        ranks = int(line)
        if ranks not in self.sets:
            try:
                self.sets[ranks] = RankCells(ranks)
            except ValueError as error:
                raise CellError(f"%%{error}") from None
        return self.sets[ranks]


def load_ipython_extension(ipython: Any) -> None:
    """Let IPython know `%%ranks`. Called by `%load_ext tpsim`."""
    ipython.register_magic_function(RanksMagic(), "cell", "ranks")
