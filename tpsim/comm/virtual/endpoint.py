"""One rank's end of a communicator: how it meets the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tpsim.comm.places import Mark, mark
from tpsim.comm.signature import POINT_TO_POINT, Signature
from tpsim.comm.virtual.meeting import Combine, Meeting
from tpsim.comm.virtual.request import Request, result_of
from tpsim.comm.virtual.world import World


class Endpoint:
    """What point-to-point calls and collectives of a `VirtualComm` stand on."""

    def __init__(self, world: World, key: Any, members: Sequence[int], rank: int) -> None:
        self.world = world
        self.rank = rank
        self.size = len(members)
        self._key = key
        self._members = tuple(members)
        self._me = self._members[rank]
        self._id = world.communicator(key, members)
        self._calls = 0  # collectives so far: which meeting is the next

    @property
    def begun(self) -> dict[Any, Any]:
        """Calls of this rank that were begun and are to be waited for: what, and from which line."""
        return self.world.begun[self._me]

    def Get_rank(self) -> int:
        """Return this rank."""
        return self.rank

    def Get_size(self) -> int:
        """Return the number of ranks."""
        return self.size

    def together(self, signature: Signature, value: Any, combine: Combine) -> Any:
        """Take part in the next collective, and return what it gives this rank.

        `combine` turns the list of all ranks' values into the list of all ranks' results. It runs
        once, on whichever rank comes last.
        """
        self._calls += 1
        world = self.world
        meeting = world.meet(self._id, self._calls, self.rank, signature, value, combine)
        if not meeting.done:
            world.wait(self._me, meeting)
        return meeting.results[self.rank] if meeting.error is None else result_of(meeting, self.rank)

    def meet(self, signature: Signature, value: Any, combine: Combine) -> Meeting:
        """Join the next collective as `together` does, without waiting for the others."""
        self._calls += 1
        begun = mark(sys._getframe())
        return self.world.meet(self._id, self._calls, self.rank, signature, value, combine, begun)

    def settle(self, meeting: Meeting) -> Any:
        """Wait for a meeting, and return what it gave this rank."""
        self.world.wait(self._me, meeting)
        return result_of(meeting, self.rank)

    def request(self, meeting: Meeting) -> Request:
        """Return a meeting as a request."""
        return Request(self.world, self._me, meeting, lambda: result_of(meeting, self.rank))

    def _begun(self) -> Mark:
        """Return the line that begins to send or receive, for messages that may be left behind.

        A collective's own messages get none: there are many, and its call is known.
        """
        call = self.world.calling[self._me]
        return mark(sys._getframe(2)) if call is None or call.operation in POINT_TO_POINT else ()

    def _check_rank(self, call: str, role: str, rank: int) -> None:
        if not 0 <= rank < self.size:
            raise ValueError(
                f"{call}: {role} {rank} is not a rank of this communicator; pick 0 to {self.size - 1}"
            )
