"""One rank's end of a communicator: how it meets the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpsim.comm.places import mark
from tpsim.comm.signature import Signature
from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.meeting import Combine, Meeting
from tpsim.comm.virtual.messages.request import Request

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Endpoint:
    """What point-to-point calls and collectives of a communicator stand on.

    All knowledge is in `_context`, which handles of the same communicator share. In an
    intercommunicator one sends to its `peers` (the other group), and both groups meet in collectives.
    """

    @property
    def _context(self) -> Context:
        raise NotImplementedError

    @property
    def world(self) -> World:
        """The virtual world that the ranks live in."""
        return self._context.world

    @property
    def rank(self) -> int:
        """This rank."""
        return self._context.rank

    @property
    def size(self) -> int:
        """The number of ranks (of the local group)."""
        return len(self._context.members)

    @property
    def _me(self) -> int:
        """This rank within the world."""
        return self._context.me

    @property
    def _id(self) -> int:
        """The communicator's number: this rank receives from the box (`_id`, `rank`)."""
        return self._context.id

    @property
    def begun(self) -> dict[Any, Any]:
        """Calls of this rank that were begun and are to be waited for: what, and from which line."""
        return self.world.begun_calls[self._me]

    def Get_rank(self) -> int:
        """Return this rank."""
        return self._context.rank

    def Get_size(self) -> int:
        """Return the number of ranks."""
        return len(self._context.members)

    def world_rank(self, rank: int) -> int:
        """Return a rank of this communicator by its number in the world."""
        return self._context.members[rank]

    def together(self, signature: Signature, value: Any, combine: Combine) -> Any:
        """Take part in the next collective, and return what it gives this rank.

        `combine` turns the list of all ranks' values into the list of all ranks' results. It runs
        once, on whichever rank comes last. (In an intercommunicator the lists hold the ranks of its
        first side, then those of its second: see `InterContext`.)
        """
        here = self._context
        here.calls += 1
        world, seat = here.world, here.seat
        meeting = world.meet(here.meets_id, here.calls, seat, signature, value, combine)
        if not meeting.done:
            world.wait(here.me, meeting)
        return meeting.results[seat] if meeting.error is None else meeting.result_of(seat)

    def meet(self, signature: Signature, value: Any, combine: Combine) -> Meeting:
        """Join the next collective as `together` does, without waiting for the others."""
        here = self._context
        here.calls += 1
        begun = mark(sys._getframe())
        return here.world.meet(here.meets_id, here.calls, here.seat, signature, value, combine, begun)

    def settle(self, meeting: Meeting) -> Any:
        """Wait for a meeting, and return what it gave this rank."""
        here = self._context
        here.world.wait(here.me, meeting)
        return meeting.result_of(here.seat)

    def request(self, meeting: Meeting) -> Request:
        """Return a meeting as a request."""
        here = self._context
        return Request.begun(here.world, here.me, meeting, lambda: meeting.result_of(here.seat))

    def _check_rank(self, call: str, role: str, rank: int) -> None:
        """Check a rank of the (local) group."""
        if not 0 <= rank < len(self._context.members):
            raise no_rank(call, role, rank, self._context.members)

    def _check_peer(self, call: str, role: str, rank: int) -> None:
        """Check a rank to send to or to receive from."""
        if not 0 <= rank < len(self._context.peers):
            raise no_rank(call, role, rank, self._context.peers)


def no_rank(call: str, role: str, rank: int, ranks: Sequence[int]) -> Exception:
    """Return the error of a number that is none of a communicator's ranks."""
    last = len(ranks) - 1
    return error("ERR_RANK", f"{call}: {role} {rank} is not a rank of this communicator; pick 0 to {last}")
