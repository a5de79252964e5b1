"""The virtual world: ranks that live in one process, their messages and their meetings.

What ranks say to each other is here, once. A schedule (lockstep or free) says only how a rank waits
for a `Completion`, and how it is woken.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from tpsim.comm.errors import CollectiveMismatchError, CommError, DeadlockError, RankStopped, UnfinishedError
from tpsim.comm.places import Mark
from tpsim.comm.signature import Signature
from tpsim.comm.tracebacks import from_main_on
from tpsim.comm.virtual import diagnosis
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.mail import Mailbox, Message, Receive
from tpsim.comm.virtual.meeting import Combine, Meeting
from tpsim.comm.virtual.polling import Polls

Body = Callable[[int], Any]
"""What a rank runs, given its world rank."""


class World(ABC):
    """`size` virtual ranks.

    Parameters
    ----------
    size : int
        How many ranks.
    eager_bytes : int
        A send up to this size is buffered and returns at once; a longer one waits for its receive.
    """

    def __init__(self, size: int, eager_bytes: int) -> None:
        self.size = size
        self.eager_bytes = eager_bytes
        self.lock = threading.Lock()  # guards all below; never held while a rank waits
        self.mail = Mailbox()
        self.meetings: dict[tuple[int, int], Meeting] = {}
        self.members: dict[int, Sequence[int]] = {}  # world ranks of each communicator
        self.names: dict[int, str] = {}
        self.results: list[Any] = [None] * size
        self.finished: set[int] = set()
        self.waiting_for: list[Completion | None] = [None] * size
        self.calling: list[Signature | None] = [None] * size
        self.begun: list[dict[Any, tuple[Signature, Mark]]] = [{} for _ in range(size)]
        self.moves = 0  # all that ranks did, other than polling
        self.polls = Polls()
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
    def wake(self, rank: int) -> None:
        """Let a waiting rank go on. Called with the lock held."""

    @abstractmethod
    def pause(self, rank: int) -> None:
        """Let other ranks run."""

    @abstractmethod
    def frame_of(self, rank: int) -> FrameType | None:
        """Return the innermost frame of a rank that has not finished."""

    @abstractmethod
    def wake_all(self) -> None:
        """Let every waiting rank see that the world stops. Called with the lock held."""

    # -- messages -------------------------------------------------------------------------------------

    def send(self, message: Message, *, synchronous: bool = False) -> Message:
        """Start a send. `message.done` says whether its data may be changed."""
        with self.lock:
            self.moves += 1
            receive = self.mail.match_message(message)
            if receive is None:
                if message.data.nbytes <= self.eager_bytes and not synchronous:
                    message.data = message.data.copy()
                    message.done = True
                return message
        self._deliver(message, receive)
        return message

    def receive(self, receive: Receive) -> Receive:
        """Start a receive."""
        with self.lock:
            self.moves += 1
            message = self.mail.match_receive(receive)
            if message is None:
                return receive
        self._deliver(message, receive)
        return receive

    def _deliver(self, message: Message, receive: Receive) -> None:
        receive.accept(message)  # outside the lock: copies of other ranks' messages go on meanwhile
        with self.lock:
            self._complete(message)
            self._complete(receive)

    def _complete(self, completion: Completion) -> None:
        completion.done = True
        for rank in completion.waiters:
            self.wake(rank)
        completion.waiters.clear()

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
            self._complete(meeting)
        return meeting

    def communicator(self, key: Any, members: Sequence[int]) -> int:
        """Return the number of the communicator that `key` names, the same on all its ranks."""
        with self.lock:
            number = self._communicators.setdefault(key, len(self._communicators))
            self.members.setdefault(number, tuple(members))
            return number

    # -- polling --------------------------------------------------------------------------------------

    def poll(self, rank: int, asked: Completion) -> None:
        """Let other ranks run between two looks at `asked`; give up when all have looked in vain for long."""
        with self.lock:
            if (
                self.polls.count(rank, asked, self.moves)
                and not self.stopping
                and self.polls.patient(self._going())
            ):
                self.deadlock()
        if self.stopping:
            raise self.stop_error(rank)
        self.pause(rank)

    def _going(self) -> list[int]:
        """Return the ranks that neither finished nor wait."""
        return [r for r in range(self.size) if r not in self.finished and self.waiting_for[r] is None]

    # -- the end --------------------------------------------------------------------------------------

    def deadlock(self) -> None:
        """Pronounce that no rank can go on. Called with the lock held."""
        self.verdict = diagnosis.deadlock(self)
        self.stopping = True
        self.wake_all()

    def finish(self, rank: int) -> None:
        """Note that a rank is done. Called with the lock held."""
        self.moves += 1
        self.finished.add(rank)

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
        if self.stopping and len(self.finished) == self.size:
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
