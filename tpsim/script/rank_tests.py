"""Tests on virtual ranks: a pytest session on each rank, which all run the same test at the same time.

Ranks have whole sessions, as under `mpirun -n 4 pytest --with-mpi`, so that fixtures of any scope, test
modules and conftests are each rank's own. The sessions wait for the caller to name the next test. They
live as long as tests pass: what a failed test left behind, half of its messages unreceived, must not
reach the next one, which gets new ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tpsim.comm.errors import CommError, RankStopped
from tpsim.comm.virtual import VirtualComm
from tpsim.script.rank_session import Asked, RankSession
from tpsim.script.session import Session
from tpsim.script.waiting_ranks import WaitingRanks


class RankTests:
    """Runs tests on virtual ranks, one after the other.

    Parameters
    ----------
    ranks : int
        How many.
    args : sequence of str
        Those of pytest's command line.
    files : set of path
        Where the tests are: all that ranks need to collect.
    folder : path
        For the ranks' temporary files.

    Attributes
    ----------
    sessions : list of RankSession
        What happened on each rank in the last test.
    left : str or None
        What communication it left behind.
    """

    def __init__(self, ranks: int, args: Sequence[str], files: set[Path], folder: Path) -> None:
        self.sessions: list[RankSession] = []
        self.left: str | None = None
        self._count = ranks
        self._args = args
        self._files = files
        self._folder = folder
        self._rounds = 0
        self._ranks: WaitingRanks | None = None

    def run(self, test: str, following: str | None) -> list[RankSession]:
        """Run the test of this node id on every rank, and return what happened on each.

        `following` is the next one, for which fixtures of a wider scope are kept.
        """
        if self._ranks is None or not self._ranks.alive:
            self._ranks = self._begin()
        for session in self.sessions:
            session.forget()
        self._do(self._ranks, (test, following))
        return self.sessions

    def close(self) -> None:
        """End the ranks' sessions, and with them the fixtures that are left."""
        if self._ranks is not None and self._ranks.alive:
            self._do(self._ranks, None)

    def _do(self, ranks: WaitingRanks, asked: Asked | None) -> None:
        self.left = None
        try:
            ranks.do(asked)
        except (CommError, RankStopped) as error:
            self.left = str(error)
        self.left = ranks.left or self.left

    def _begin(self) -> WaitingRanks:
        self._rounds += 1
        session = Session(self._count, threads=None)
        self.sessions = [
            RankSession(rank, self._files, lambda: session.world.stopping) for rank in range(self._count)
        ]
        return WaitingRanks(session, self._live, lambda: not any(one.failed for one in self.sessions))

    def _live(self, comm: VirtualComm, next_test: Callable[[], Asked | None]) -> None:
        session = self.sessions[comm.rank]
        session.next_test = next_test
        folder = self._folder / f"ranks{self._rounds}" / f"rank{comm.rank}"
        folder.parent.mkdir(exist_ok=True)
        try:
            pytest.main([*self._args, f"--basetemp={folder}"], [session])
        except (CommError, RankStopped):
            if not comm.world.stopping:
                raise


def arguments(config: pytest.Config) -> list[str]:
    """Return what the ranks' sessions are called with: as pytest was, but that one process is enough."""
    args = [os.fspath(arg) for arg in config.invocation_params.args]
    args.append("-s" if config.getoption("capture") == "no" else "--capture=sys")
    return [*args, "-n0"] if config.pluginmanager.hasplugin("xdist") else args
