"""The watchdog of an MPI job: a collective that never completes is told of, and the job ended.

A process is one rank here, so there is one watchdog a process: a thread that looks a few times a
second at how long the rank has been in its call. Calls only leave word in a `CallMarker`. Ranks tell each
other where they stand on a `Board`. (On virtual ranks `virtual.diagnosis` does this, at once.)
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tpsim.comm.board import RUNNING, UNKNOWN, Board, Row
from tpsim.comm.call_marker import CallMarker
from tpsim.comm.hang import explanation
from tpsim.comm.places import line_of
from tpsim.comm.signature import POINT_TO_POINT, Signature, name_ranks
from tpsim.comm.stacks import stack_of

_TICK = 0.25  # seconds between two looks
_ANSWER = 3 * _TICK  # in which every rank's thread has looked
_DELIVERY = 0.3


class _GroupMarker:
    """Leaves word of one group's calls: a single assignment each."""

    def __init__(self, watch: Watch, ranks: Sequence[int], where: str) -> None:
        self._watch = watch
        self._ranks = ranks
        self._where = where

    def enter(self, call: Signature) -> None:
        self._watch.standing = (call, time.monotonic(), self._ranks, self._where)

    def leave(self) -> None:
        self._watch.standing = None


class Watch:
    """This process's watchdog.

    Attributes
    ----------
    standing : (Signature, float, sequence of int, str) or None
        The call that the rank is in, since when, the world ranks of the group, and its name in words
        where it isn't everybody's; None between calls.
    struck : str
        What the rank does for ever because a fault was asked for, else empty.
    """

    def __init__(self, world: Any, timeout: float) -> None:
        self.standing: tuple[Signature, float, Sequence[int], str] | None = None
        self._world = world
        self._timeout = timeout
        self._over = ""  # why the rank will make no more calls
        self.struck = ""  # by which fault it was stopped
        self._watched = threading.get_ident()
        self._boards = [Board(_new_path(), [world.rank], world.rank)]  # to begin with, one of its own
        self._boards[0].hide()
        atexit.register(self.end, "finished the script")  # before mpi4py's MPI_Finalize, which waits for all
        threading.Thread(target=self._look, name="tpsim watchdog", daemon=True).start()

    def join(self, comm: Any, name: str) -> CallMarker:
        """Be on a board with all ranks of `comm`, who all call this; return the marker of their group."""
        if not set.intersection(*comm.allgather({board.path for board in self._boards})):
            board = Board(comm.bcast(_new_path()), self._ranks(comm), self._world.rank)
            board.write(self._row())
            comm.Barrier()
            board.hide()
            self._boards.append(board)
        return self.marker(comm, name)

    def marker(self, comm: Any, name: str = "") -> CallMarker:
        """Return the marker of a group over `comm`."""
        ranks = self._ranks(comm)
        of = f" of group {name!r}" if name else ""
        return _GroupMarker(
            self, ranks, "" if len(ranks) == self._world.size else f"{of} among {name_ranks(ranks)}"
        )

    def _ranks(self, comm: Any) -> list[int]:
        ranks: list[int] = comm.Get_group().Translate_ranks(None, self._world.Get_group())
        return ranks

    def end(self, why: str) -> None:
        """Note that the rank will make no more calls; with "", that it goes on."""
        self._over = why
        for board in self._boards:
            board.write(self._row())

    def take(self) -> bool:
        """Tell whether this process may explain what went wrong; another one may have begun to."""
        return self._largest.take()

    @property
    def _largest(self) -> Board:
        return max(self._boards, key=lambda board: len(board.ranks))

    def _row(self) -> Row:
        if self._over:
            return Row(self._over)
        standing, frame = self.standing, sys._current_frames().get(self._watched)
        line, stack = line_of(frame), stack_of(frame)
        if self.struck:
            return Row(self.struck, line, stack=stack, struck=True)
        if standing is None:
            return Row(RUNNING, line, stack=stack)
        call, since, ranks, where = standing
        needs = tuple(ranks) if where else None
        if call.operation in POINT_TO_POINT and call.place is not None:
            needs = (ranks[call.place],)
        return Row(f"{call}{where}", line, time.monotonic() - since, call.operation, needs, stack)

    def _look(self) -> None:
        while True:
            time.sleep(_TICK)
            for board in self._boards:
                if board.asked:
                    board.write(self._row())
            standing = self.standing
            if standing is not None and time.monotonic() - standing[1] > self._timeout and self.take():
                self._explain(*standing[:2])

    def _explain(self, call: Signature, since: float) -> None:
        for board in self._boards:
            board.ask(True)
            board.write(self._row())
        time.sleep(_ANSWER)
        if self.standing is None or self.standing[1] != since:  # it was only slow
            for board in self._boards:
                board.ask(False)
            self._largest.give_back()
            return
        rows = dict.fromkeys(range(self._world.size), UNKNOWN)
        for board in self._boards:
            rows |= board.read()
        end_job(self._world, 1, explanation(call.operation, rows, self._timeout))


def _new_path() -> str:
    return str(Path(tempfile.gettempdir(), f"tpsim-{secrets.token_hex(8)}"))


# -- the process's own watchdog --------------------------------------------------------------------------

_watch: Watch | None = None
_limit: float | None = None  # what the program asks for, in seconds


def limit(seconds: float | None) -> None:
    """Set after how many seconds a call counts as hanging (0: never), for the process's whole life.

    None leaves it to the environment.
    """
    global _limit
    if seconds is not None:
        _limit = seconds


def marker_of(comm: Any, name: str = "") -> CallMarker | None:
    """Return where a group over `comm` leaves word of its calls; all its ranks ask. None: not watched."""
    watch = _watch_of(comm)
    return None if watch is None else watch.join(comm, name)


@contextlib.contextmanager
def making(what: str, comm: Any) -> Iterator[None]:
    """Leave word of making a communicator from `comm`, which waits for all ranks like any collective."""
    watch = _watch_of(comm)
    if watch is None:
        yield
        return
    marker = watch.marker(comm)
    marker.enter(Signature(what))
    try:
        yield
    finally:
        marker.leave()


def end(why: str) -> None:
    """Let the others know that this rank will make no more calls, and why; with "", that it goes on."""
    if _watch is not None:
        _watch.end(why)


def strike(why: str) -> None:
    """Let the others know what this rank does for ever, because a fault was asked for."""
    if _watch is not None:
        _watch.struck = why


def may_explain() -> bool:
    """Tell whether this process is the first that has something to explain: one report is enough."""
    return _watch is None or _watch.take()


def end_job(world: Any, code: int, why: str) -> NoReturn:
    """End every rank, at once, and say why."""
    sys.stdout.flush()
    sys.stderr.write(why)
    sys.stderr.flush()
    time.sleep(_DELIVERY)  # mpiexec drops what it has not yet passed on
    world.Abort(code)
    os._exit(code)  # where Abort returns before mpiexec has killed this process


def _watch_of(comm: Any) -> Watch | None:
    """Return this process's watchdog where `comm` needs one."""
    global _watch
    MPI = sys.modules.get("mpi4py.MPI")  # it is there if `comm` is one of its own
    if MPI is None or not isinstance(comm, MPI.Comm) or comm.size == 1 or sys.platform == "win32":
        return None
    if _watch is None:
        _watch = Watch(MPI.COMM_WORLD, _timeout())
    return _watch


def _timeout() -> float:
    """Return the seconds after which a call counts as hanging."""
    text = os.environ.get("TPSIM_TIMEOUT", "30")
    try:
        seconds = float(text) if _limit is None else _limit
    except ValueError:
        raise ValueError(
            f"TPSIM_TIMEOUT={text!r} is not a number of seconds; set it to one, such as 30 (0: no limit)"
        ) from None
    return seconds if seconds > 0 else math.inf
