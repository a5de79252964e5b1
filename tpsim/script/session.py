"""Ranks of a program: a lockstep world in which each has an interpreter's state of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, TextIO

from tpsim.comm.blas import blas_threads
from tpsim.comm.virtual import VirtualComm
from tpsim.comm.virtual.comm import world_comm
from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.script.interpreter import Interpreter
from tpsim.script.output import Target, lines_of_ranks, text_stream
from tpsim.script.package import package
from tpsim.script.threads import here, inherit_rank
from tpsim.trace import isolate

EAGER_BYTES = 1 << 16
MOST_RANKS = 10_000

Body = Callable[[VirtualComm], Any]
Watch = Callable[[LockstepWorld], AbstractContextManager[Any]]


class Session:
    """Virtual ranks, each of which imports modules of its own.

    Parameters
    ----------
    ranks : int
        How many.
    argv, path : sequence of str, optional
        `sys.argv` and `sys.path` of each rank; by default the caller's.
    eager_bytes : int
        A send up to this size is buffered; a longer one waits for its receive.
    check : bool
        Whether to look for buffers that are changed while they are in flight.
    prefix : bool
        Whether each line of output begins with its rank.
    threads : int or None
        BLAS threads a rank; None leaves NumPy's own setting.
    stdout, stderr : stream, optional
        Where ranks print; by default as the caller does.

    Attributes
    ----------
    interpreter : Interpreter
        Of the ranks, while they run.
    world : LockstepWorld
    comms : list of VirtualComm
        COMM_WORLD of each rank.
    """

    def __init__(
        self,
        ranks: int,
        *,
        argv: Sequence[str] | None = None,
        path: Sequence[str] | None = None,
        eager_bytes: int = EAGER_BYTES,
        check: bool = False,
        prefix: bool = False,
        threads: int | None = 1,
        stdout: Target | None = None,
        stderr: Target | None = None,
    ) -> None:
        self.world = LockstepWorld(ranks, eager_bytes, check=check)
        self.world.ended = "finished the program"
        self.comms = [world_comm(self.world, rank) for rank in range(ranks)]
        self.interpreter = Interpreter()
        self._argv = argv
        self._path = path
        self._threads = threads
        self._out = lines_of_ranks(ranks, stdout or sys.stdout, prefix=prefix)
        self._err = lines_of_ranks(ranks, stderr or sys.stderr, prefix=prefix)

    def run(self, body: Body, watch: Watch = nullcontext) -> list[Any]:
        """Run `body(comm)` on every rank, and return what it returned on each.

        Parameters
        ----------
        body : callable
            What a rank runs, given its COMM_WORLD.
        watch : callable
            Given the world, a context to be in while ranks run.

        Raises
        ------
        Exception
            As `tpsim.run`.
        """

        def live(rank: int) -> Any:
            isolate()
            here.set((self.interpreter, rank))
            try:
                result = body(self.comms[rank])
                self.interpreter.leave()
                return result
            finally:
                self._out[rank].finish()
                self._err[rank].finish()

        with self.interpreter, inherit_rank(), watch(self.world):
            for rank in range(self.world.size):
                self._add(rank)
            self.world.on_switch = self.interpreter.switch
            with blas_threads(self._threads):
                self.world.run(live)
        return self.world.conclude()

    def _add(self, rank: int) -> None:
        self.interpreter.add(
            rank,
            {"__main__": ModuleType("__main__"), **package(self.comms[rank])},
            argv=list(sys.argv if self._argv is None else self._argv),
            path=list(sys.path if self._path is None else self._path),
            stdin=sys.stdin if rank == 0 else _nothing(),
            stdout=text_stream(self._out[rank]),
            stderr=text_stream(self._err[rank]),
        )


def check_number(ranks: int, asked: str) -> None:
    """Raise ValueError if there can't be so many ranks; `asked` says who asks."""
    if ranks < 1:
        raise ValueError(f"{asked} is not a number of ranks; pass 1 or more")
    if ranks > MOST_RANKS:
        raise ValueError(
            f"{asked}: so many ranks do not fit into one process, in which each has modules, streams and "
            f"random generators of its own; pass {MOST_RANKS} or fewer"
        )


def _nothing() -> TextIO:
    """Return the standard input of all ranks but the first, as mpiexec has it."""
    return io.StringIO()
