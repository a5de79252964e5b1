"""The virtual world: ranks that live in one process, their messages and their meetings.

What ranks say to each other is here, once. A schedule (lockstep or free) says only how a rank waits
for a `Completion`, and how it is woken.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from tpsim.comm.errors import CollectiveMismatchError, CommError, DeadlockError, RankStopped, UnfinishedError
from tpsim.comm.places import Mark
from tpsim.comm.signature import Signature
from tpsim.comm.tracebacks import from_main_on
from tpsim.comm.virtual import diagnosis
from tpsim.comm.virtual.completion import AllOf, AnyOf, Completion, Several
from tpsim.comm.virtual.meeting import Combine, Meeting
from tpsim.comm.virtual.polling import Polls
from tpsim.comm.virtual.post_office import PostOffice
from tpsim.comm.virtual.side_threads import LOOK, SideThreads, Sleeper

Body = Callable[[int], Any]
"""What a rank runs, given its world rank."""


class World(PostOffice, ABC):
    """`size` virtual ranks.

    Parameters
    ----------
    size : int
        How many ranks.
    eager_bytes : int
        Up to which size sends are buffered.
    check : bool
        Whether memory is watched that calls use which were begun.
    """

    shares_thread = False
    """Whether a rank that waits outside of the world keeps all others from running."""

    def __init__(self, size: int, eager_bytes: int, *, check: bool = False) -> None:
        super().__init__(eager_bytes)
        self.size = size
        self.check = check
        self.ended = "returned from main"  # what a rank did that is finished
        self.struck: list[str] = []  # what faults did that nobody sees, for reports
        self.meetings: dict[tuple[int, int], Meeting] = {}
        self.members: dict[int, Sequence[int]] = {}  # world ranks of each communicator
        self.names: dict[int, str] = {}
        self.results: list[Any] = [None] * size
        self.finished: set[int] = set()
        self.waiting_for: list[Completion | None] = [None] * size
        self.calling: list[Signature | None] = [None] * size
        self.begun_calls: list[dict[Any, tuple[object, Mark]]] = [{} for _ in range(size)]
        self.polls = Polls()
        self.aside = SideThreads(self.polls)
        self.stopping = False  # something went wrong, or all is over: nobody may wait any more
        self.failed: tuple[int, BaseException] | None = None
        self.verdict: str | None = None  # why no rank can go on
        self._told: set[int] = set()  # who has been thrown the verdict
        self._communicators: dict[Any, int] = {}

    # -- what a schedule provides -------------------------------------------------------------------

    @abstractmethod
    def run(self, body: Body) -> None:
        """Run `body(rank)` on every rank until all have returned, or one failed and the others stopped."""

    @abstractmethod
    def wait(self, rank: int, completion: Completion) -> None:
        """Return when `completion` is done."""

    @abstractmethod
    def is_aside(self, rank: int) -> bool:
        """Tell whether this thread is not the rank itself, but one beside it."""

    @abstractmethod
    def stir(self) -> None:
        """Look again whether anybody can go on. Called with the lock held."""

    @abstractmethod
    def pause(self, rank: int) -> None:
        """Let other ranks run."""

    def alone(self) -> bool:
        """Tell whether no other rank could go on now."""
        return False

    @abstractmethod
    def frame_of(self, rank: int) -> FrameType | None:
        """Return the innermost frame of a rank that has not finished."""

    @abstractmethod
    def wake_all(self) -> None:
        """Let every waiting rank see that the world stops. Called with the lock held."""

    # -- waiting --------------------------------------------------------------------------------------

    def any_of(self, completions: Sequence[Completion]) -> AnyOf:
        """Return what is done when one of them is. Whoever made it must `leave` it."""
        with self.lock:
            return AnyOf(completions)

    def all_of(self, completions: Sequence[Completion]) -> AllOf:
        """Return what is done when all of them are."""
        with self.lock:
            return AllOf(completions)

    def leave(self, several: Several) -> None:
        """Be no longer interested in several completions."""
        with self.lock:
            several.leave()

    def wait_aside(self, rank: int, completion: Completion) -> None:
        """Wait in a thread beside a rank, which goes on meanwhile."""
        number = self.aside.spoke()
        sleeper = Sleeper(rank, completion)
        with self.lock:
            if completion.done:
                return
            if self.stopping:
                raise self.stop_error(rank) if self.over() else SystemExit
            completion.waiters.append(sleeper.bell.ring)
            self.aside.waiting[number] = sleeper
            self.stir()
        sleeper.bell.wait()
        with self.lock:
            del self.aside.waiting[number]
        if not completion.done:
            raise SystemExit  # ends the thread and says nothing: it is the ranks' run that failed, or is over

    # -- meetings -------------------------------------------------------------------------------------

    def meet(
        self,
        comm: int,
        number: int,
        rank: int,
        signature: Signature,
        value: Any,
        combine: Combine,
        begun: Mark = (),
    ) -> Meeting:
        """Join the `number`-th collective of a communicator; the last to join computes every result."""
        key = (comm, number)
        if self.faults is not None:
            value = self.faults.on_collective(self.members[comm][rank], signature, value)
        with self.lock:
            self.moves += 1
            meeting = self.meetings.get(key)
            if meeting is None:
                meeting = self.meetings[key] = Meeting(comm, self.members[comm], signature)
            if not meeting.join(rank, signature, value, begun):
                return meeting
            del self.meetings[key]
        if meeting.agreed:
            try:
                meeting.results = combine(meeting.values)
            except Exception as error:
                meeting.error = error
        else:
            meeting.error = CollectiveMismatchError(diagnosis.mismatch(self, meeting))
        meeting.values = []
        with self.lock:
            meeting.complete()
        return meeting

    def communicator(self, key: Any, members: Sequence[int]) -> int:
        """Return the number of the communicator that `key` names, the same on all its ranks."""
        with self.lock:
            number = self._communicators.setdefault(key, len(self._communicators))
            if number not in self.members:
                self.members[number] = tuple(members)
            return number

    # -- polling --------------------------------------------------------------------------------------

    def poll(self, rank: int, asked: Completion) -> None:
        """Let other ranks run between two looks at `asked`; give up when all have looked in vain for long."""
        aside = self.is_aside(rank)
        who = self.aside.spoke() if aside else rank
        with self.lock:
            if (
                self.polls.count(who, asked, self.moves)
                and not self.stopping
                and self.polls.patient(self._going())
                and not self.aside.may_act(self.moves)
            ):
                self.deadlock()
        if self.stopping:
            raise SystemExit if aside and not self.over() else self.stop_error(rank)
        if aside:
            time.sleep(LOOK)
        else:
            self.pause(rank)

    def _going(self) -> list[int]:
        """Return the ranks that neither finished nor wait."""
        return [r for r in range(self.size) if r not in self.finished and self.waiting_for[r] is None]

    # -- the end --------------------------------------------------------------------------------------

    def deadlock(self) -> None:
        """Pronounce that no rank can go on. Called with the lock held."""
        self.verdict = diagnosis.deadlock(self)
        self.stop()

    def stop(self) -> None:
        """Let nobody wait any more. Called with the lock held."""
        self.stopping = True
        self.wake_all()
        for sleeper in self.aside.waiting.values():
            sleeper.bell.ring()

    def finish(self, rank: int) -> None:
        """Note that a rank is done. Called with the lock held."""
        self.moves += 1
        self.finished.add(rank)

    def over(self) -> bool:
        """Tell whether every rank is done."""
        return len(self.finished) == self.size

    def fail(self, rank: int, error: BaseException) -> None:
        """Note that a rank raised. The first to fail is the one that is told of."""
        if not self.stopping:
            self.failed = (rank, error)
            self.stopping = True

    def stop_error(self, rank: int) -> BaseException:
        """Return what a rank that must stop now is thrown."""
        if self.verdict is not None and rank not in self._told:
            self._told.add(rank)
            return DeadlockError(self.verdict)
        if self.stopping and self.over():
            return CommError(
                "a communicator was used after its run had ended; make groups inside main, and use them there"
            )
        return RankStopped()  # no `except Exception` in a loop keeps a rank that was told going

    def conclude(self) -> list[Any]:
        """Return every rank's result, or raise what went wrong."""
        if self.failed is not None:
            rank, error = self.failed
            if self.size > 1 and not isinstance(error, CollectiveMismatchError):  # which names all ranks
                error.add_note(f"[raised by rank {rank} of {self.size}; the other ranks were stopped]")
            raise from_main_on(error)
        if self.verdict is not None:
            raise DeadlockError(self.verdict)
        left = diagnosis.unfinished(self)
        if left is not None:
            raise UnfinishedError(left)
        return self.results
