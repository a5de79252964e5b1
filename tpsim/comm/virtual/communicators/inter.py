"""Intercommunicators: two groups of ranks, each of which sends to the other."""

from __future__ import annotations

from typing import Any

from tpsim.comm.signature import Signature
from tpsim.comm.virtual.communicators.context import Context, InterContext
from tpsim.comm.virtual.communicators.division import Choice, Part, divide
from tpsim.comm.virtual.communicators.handle import Communicator, handle_of, null_of
from tpsim.comm.virtual.communicators.making import Making
from tpsim.comm.virtual.communicators.rootless import rootless_key
from tpsim.comm.virtual.data.constants import UNDEFINED
from tpsim.comm.virtual.data.errhandlers import Errhandler
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.info import INFO_NULL, Info
from tpsim.comm.virtual.data.process_group import ProcessGroup

Half = tuple[tuple[int, int], tuple[int, ...]]
"""((communicator, its collective), world ranks) of one of the groups that come together"""


class BridgeMaking(Making):
    """What makes an intercommunicator of two intracommunicators."""

    def Create_intercomm(
        self, local_leader: int, peer_comm: Communicator, remote_leader: int, tag: int = 0
    ) -> Any:
        """Return the intercommunicator of this communicator's ranks and another's.

        Parameters
        ----------
        local_leader : int
            The rank of this communicator that talks to the other group.
        peer_comm : Intracomm
            Where both leaders are; of interest on the leaders only.
        remote_leader : int
            The other leader's rank in `peer_comm`.
        tag : int
            Of the leaders' messages, which meet no others in `peer_comm`.
        """
        call = "Create_intercomm"
        self._check_rank(call, "local_leader", local_leader)
        here = self._context
        mine: Half = (here.id, here.calls + 1), tuple(here.members)
        told: Half | None = None
        if here.rank == local_leader:
            peer_comm._check_peer(call, "remote_leader", remote_leader)
            if remote_leader == peer_comm.rank:
                raise error(
                    "ERR_RANK",
                    f"{call}: remote_leader {remote_leader} is this rank; pass the other group's leader, as "
                    "numbered in peer_comm",
                )
            peers = peer_comm._context
            aside = handle_of(Context(here.world, (peers.id, "leaders"), peers.members, peers.rank))
            told = aside.sendrecv(mine, remote_leader, tag, None, remote_leader, tag)
        theirs: Half = self.together(
            Signature(call, place=local_leader), told, lambda values: [values[local_leader]] * len(values)
        )
        _check_apart(call, mine[1], theirs[1])
        first, second = sorted((mine, theirs))
        sides, side = (first[1], second[1]), int(mine == second)
        return handle_of(InterContext(here.world, (call, first[0], second[0]), sides, side, here.rank))


class InterCalls(Making):
    """What one may ask of an intercommunicator."""

    def Get_remote_group(self) -> ProcessGroup:
        """Return the group of the ranks on the other side."""
        here = self._context
        return ProcessGroup.of(here.peers, here.me)

    def Get_remote_size(self) -> int:
        """Return how many there are."""
        return len(self._context.peers)

    remote_group = property(Get_remote_group)
    remote_size = property(Get_remote_size)

    def Merge(self, high: bool = False) -> Any:
        """Return the intracommunicator of both groups; that with `high` comes behind the other."""
        here = self._context
        seated, number = here.world.members[here.meets_id], here.calls + 1

        def join(values: list[tuple[int, bool]]) -> list[Part | None]:
            if len(set(values)) > 2:
                raise error(
                    "ERR_ARG", "Merge: ranks of one group differ in `high`; pass the same within a group"
                )
            choices: list[Choice] = [(0, 0, 2 * high + side) for side, high in values]
            return divide(seated, choices, (here.meets_id, "Merge", number))

        part: Part = self.together(Signature("Merge"), (here.side, bool(high)), join)
        return handle_of(Context(here.world, part.key, part.groups[0], part.rank))

    @classmethod
    def Create_from_groups(
        cls,
        local_group: ProcessGroup,
        local_leader: int,
        remote_group: ProcessGroup,
        remote_leader: int,
        stringtag: str = "org.mpi4py",
        info: Info = INFO_NULL,
        errhandler: Errhandler | None = None,
    ) -> Any:
        """Return the intercommunicator of two groups, all ranks of which name both of them.

        It comes from no other communicator. The leaders have nothing to do.
        """
        call, mine, theirs = "Create_from_groups", local_group.members, remote_group.members
        if local_group.rank == UNDEFINED:
            return null_of("inter")
        _check_apart(call, mine, theirs)
        first, second = sorted((mine, theirs))
        world, key = rootless_key(call, (first, second, stringtag))
        return handle_of(InterContext(world, key, (first, second), int(mine == second), local_group.rank))


def _check_apart(call: str, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    both = set(mine).intersection(theirs)
    if both or not theirs:
        raise error(
            "ERR_GROUP",
            f"{call}: the groups {list(mine)} and {list(theirs)} (world ranks) can't face each other; "
            "make two that have ranks, and none in common",
        )
