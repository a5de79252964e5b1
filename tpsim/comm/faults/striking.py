"""When a fault strikes, and what it does to the rank that it strikes."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from tpsim.comm import watch
from tpsim.comm.errors import Crash
from tpsim.comm.faults.fault import Event, Fault
from tpsim.comm.virtual import VirtualComm
from tpsim.comm.virtual.never import Never

_FOR_EVER = 1e9  # seconds
_active: ContextVar[RankFaults | None] = ContextVar("tpsim_faults", default=None)


class RankFaults:
    """The faults of one rank, and its count of the events at which they may strike.

    Parameters
    ----------
    faults : sequence of Fault
        Everybody's.
    rank : int
        The rank within the whole world.
    stay : callable
        Called with a sentence when the rank stalls; never returns.
    """

    def __init__(self, faults: Sequence[Fault], rank: int, stay: Callable[[str], None]) -> None:
        self.faults = [fault for fault in faults if fault.rank == rank]
        self._stay = stay
        self._counts: Counter[Event] = Counter()
        self._armed: list[Fault] = []  # they wait for something to be sent: those of a step for long
        self._struck: set[Fault] = set()

    def count(self, event: Event, what: object) -> Fault | None:
        """Count an event; return the fault that befalls what the rank sends now, if any.

        Crashes, stalls and sleeps on the spot.

        Parameters
        ----------
        event : {"collective", "message"}
        what : object
            The call in words, for the report.
        """
        self._counts[event] += 1
        self._strike(event, self._counts[event], what)
        return self._armed.pop() if self._armed else None

    def missed(self) -> list[str]:
        """Return a sentence for each fault that did not strike, because the rank never came so far."""
        return [
            f"fault {str(fault)!r} did not strike: rank {fault.rank} came no further than "
            f"{fault.event}:{self._counts[fault.event]}; pick an earlier one"
            for fault in self.faults
            if fault not in self._struck or fault in self._armed
        ]

    def step(self, number: int) -> None:
        """Note that the trainer begins its `number`-th step."""
        self._counts["step"] += 1
        self._strike("step", number, f"the beginning of step {number}")

    def stay(self, why: str) -> NoReturn:
        """Never return; `why` says what the rank does meanwhile."""
        self._stay(why)
        raise AssertionError(f"{why}, and it came to an end")

    def _strike(self, event: Event, number: int, what: object) -> None:
        for fault in self.faults:
            if not fault.strikes(event, number):
                continue
            self._struck.add(fault)
            if fault.kind == "crash":
                raise Crash(f"rank {fault.rank} crashed at {what}, as fault {str(fault)!r} asks for")
            if fault.kind == "stall":
                self.stay(f"stalled at {what}, as fault {str(fault)!r} asks for")
            elif fault.kind == "slow":
                time.sleep(fault.seconds)
            else:
                self._armed.append(fault)


def active() -> RankFaults | None:
    """Return the faults of this rank's groups, if there are any."""
    return _active.get()


def begin_step(number: int) -> None:
    """Let the faults of the trainer's `number`-th step, from 1, strike this rank."""
    faults = _active.get()
    if faults is not None:
        faults.step(number)


@contextmanager
def injected(
    faults: Sequence[Fault], comm: Any, tell: Callable[[str], None] = warnings.warn
) -> Iterator[None]:
    """Let faults strike in the groups that this rank makes inside, in whichever world it is.

    A rank's collectives are counted over all its groups, in the order in which it calls or begins them.

    Parameters
    ----------
    faults : sequence of Fault
    comm : VirtualComm or mpi4py.MPI.Comm
        Of all ranks.
    tell : callable
        Told of faults that never struck, at the end.
    """
    if not faults:
        yield
        return
    mine = RankFaults(faults, comm.Get_rank(), staying(comm))
    token = _active.set(mine)
    try:
        yield
        for sentence in mine.missed():
            tell(sentence)
    finally:
        _active.reset(token)


def staying(comm: Any) -> Callable[[str], None]:
    """Return how a rank of `comm` never comes back."""
    if isinstance(comm, VirtualComm):
        world, rank = comm.world, comm.rank
        return lambda why: world.wait(rank, Never(why))

    def sleep(why: str) -> None:
        watch.strike(why)
        time.sleep(_FOR_EVER)

    return sleep
