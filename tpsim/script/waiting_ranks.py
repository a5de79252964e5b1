"""Ranks that wait for the caller between two jobs, with all that they know."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import greenlet

from tpsim.comm.signature import Signature
from tpsim.comm.virtual import VirtualComm, diagnosis
from tpsim.comm.virtual.comm import world_comm
from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.script.session import Session
from tpsim.script.whereabouts import NOT_BEGUN

DONE = "end of the job"
"""What a rank waits for that is done, and others are not."""

_BEFORE = r"Barrier\(\).*waiting_ranks\.py.*"  # in `_next`

Body = Callable[[VirtualComm, Callable[[], Any]], Any]


class WaitingRanks:
    """Ranks that do one job after the other.

    They are greenlets, of a scheduler that is one itself: so the whole of them can stop between two jobs, and
    the caller goes on.

    Parameters
    ----------
    session : Session
        The ranks.
    body : callable
        What each runs, given its COMM_WORLD and a function that returns the next job, or None at the end.
    go_on : callable
        Tells, when all ranks are done with a job, whether they are fit for another one.

    Attributes
    ----------
    alive : bool
        Whether they wait for another job.
    left : str or None
        What communication the last job left without its partner; then they are not alive.
    """

    def __init__(self, session: Session, body: Body, go_on: Callable[[], bool] = lambda: True) -> None:
        self.left: str | None = None
        self._session = session
        self._body = body
        self._go_on = go_on
        self._sync = [world_comm(session.world, rank).Dup() for rank in range(session.world.size)]
        self._job: Any = None
        self._first = True
        self._caller = greenlet.getcurrent()
        self._paused: greenlet.greenlet | None = greenlet.greenlet(self._live)

    @property
    def world(self) -> LockstepWorld:
        """Where they are."""
        return self._session.world

    @property
    def alive(self) -> bool:
        """Whether they wait for another job."""
        return self._paused is not None

    def do(self, job: Any) -> None:
        """Let every rank do a job; return when all are done, or can't go on.

        Raises
        ------
        Exception
            What ended the ranks, as `tpsim.run`.
        """
        self._job, self.left = job, None
        self._caller = greenlet.getcurrent()
        paused, self._paused = self._paused, None
        assert paused is not None, "these ranks have come to their end"
        paused.switch()

    def close(self) -> None:
        """Let the ranks end."""
        if self.alive:
            self.do(None)

    # -- on the ranks' side -------------------------------------------------------------------------------

    def _live(self) -> None:
        self._session.run(lambda comm: self._body(comm, lambda: self._next(comm.rank)))

    def _next(self, rank: int) -> Any:
        """Wait for the other ranks and the caller; return the next job."""
        self._sync[rank].together(Signature(DONE), None, self._look)
        if rank == 0:
            if not self._first:
                self._pause()
            self._first = False
        self._sync[rank].Barrier()
        return self._job

    def _look(self, values: list[None]) -> list[None]:
        """Look, while all ranks are done and none goes on, at what the job left behind."""
        self.left = diagnosis.unfinished(self._session.world)
        return values

    def _pause(self) -> None:
        if self.left is not None or not self._go_on():
            self._job = None
            return
        self._paused = greenlet.getcurrent()
        with self._session.interpreter.as_before():
            self._caller.switch()


def done(text: str) -> str:
    """Return a text in which ranks between two jobs are not said to communicate."""
    return re.sub(rf"{DONE}\(\).*", "done", re.sub(_BEFORE, NOT_BEGUN, text))


def without_waiting(verdict: str) -> str:
    """Return a deadlock's report in which ranks that are done with the job do not wait, but are done."""
    if DONE not in verdict:
        return verdict
    lines = [
        done(line) for line in verdict.splitlines() if not (line.startswith("wait cycle") and DONE in line)
    ]
    return "\n".join(
        [*lines[:-1], "a rank that is done takes no part any more: every rank must make the call"]
    )
