"""One rank's end of a communicator: what all handles of it on that rank share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tpsim.comm.virtual.data.attributes import Attribute
from tpsim.comm.virtual.data.errhandlers import ERRORS_RETURN

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


Groups = Sequence[Sequence[int]]
"""World ranks of a communicator's group, or of both."""


class Topology(Protocol):
    """Who is whose neighbour: what a Cartesian, graph or distributed graph communicator knows."""

    @property
    def kind(self) -> int:
        """CART, GRAPH or DIST_GRAPH."""

    def neighbours(self, rank: int) -> tuple[list[int], list[int]]:
        """Return (whom `rank` hears from, whom it sends to)."""


class Context:
    """One rank's end of an intracommunicator.

    Parameters
    ----------
    world : World
        The ranks.
    key : hashable
        What names the communicator, the same on all its ranks.
    members : sequence of int
        World ranks, by rank within the communicator.
    rank : int
        This rank within the communicator.
    topology : Topology, optional
        Its virtual topology.

    Attributes
    ----------
    id : int
        The communicator's number: where this rank's messages arrive.
    me : int
        This rank within the world.
    peers_id, peers : int, sequence of int
        Where messages go to, and the world ranks one may send to.
    meets_id, seat, seats : int
        Where its collectives meet, this rank's place there, and how many come.
    calls : int
        Collectives so far: which meeting is the next.
    children : Counter
        How many communicators of a kind were made from this one without a meeting.
    """

    __slots__ = (
        "__weakref__",
        "attributes",
        "calls",
        "children",
        "constant",
        "errhandler",
        "id",
        "info",
        "me",
        "meets_id",
        "members",
        "name",
        "peers",
        "peers_id",
        "predefined",
        "rank",
        "seat",
        "seats",
        "topology",
        "world",
    )

    is_inter = False
    side = 0

    def __init__(
        self, world: World, key: Any, members: Sequence[int], rank: int, topology: Topology | None = None
    ) -> None:
        self.world = world
        self.id = self.peers_id = self.meets_id = world.communicator(key, members)
        self.members = self.peers = world.members[self.id]
        self.me = self.members[rank]
        self.rank = self.seat = rank
        self.seats = len(self.members)
        self.topology = topology
        self.calls = 0
        self.children: Counter[Any] = Counter()
        self.name = ""
        self.predefined: Any = None  # the handle that is COMM_WORLD or COMM_SELF,
        self.constant = ""  # and which of them
        self.attributes: dict[int, Attribute] = {}
        self.errhandler = ERRORS_RETURN
        self.info: dict[str, str] = {}

    def key_of(self, kind: str, *more: Any) -> tuple[Any, ...]:
        """Return a new key for a communicator made from this one; every rank makes it without a meeting."""
        self.children[kind, *more] += 1
        return (self.meets_id, kind, *more, self.children[kind, *more])

    def part(self, key: Any, groups: Groups, rank: int) -> Context:
        """Return the context of a communicator of some of the ranks; see `division`."""
        return Context(self.world, key, groups[0], rank)

    def twin(self) -> Context:
        """Return a context of the same ranks and topology, whose messages never meet this one's."""
        return Context(self.world, self.key_of("dup"), self.members, self.rank, self.topology)


class InterContext(Context):
    """One rank's end of an intercommunicator: it sends to ranks of the other side.

    Parameters
    ----------
    sides : pair of sequences of int
        World ranks of both groups, in the same order on all ranks.
    side, rank : int
        Which group this rank is in, and its rank there.
    """

    __slots__ = ("side", "sides")

    is_inter = True

    def __init__(
        self, world: World, key: Any, sides: tuple[Sequence[int], Sequence[int]], side: int, rank: int
    ) -> None:
        super().__init__(world, (key, side), sides[side], rank)
        self.side = side
        self.sides = sides
        self.peers_id = world.communicator((key, 1 - side), sides[1 - side])
        self.peers = world.members[self.peers_id]
        self.meets_id = world.communicator(key, (*sides[0], *sides[1]))
        self.seat = rank + (len(sides[0]) if side else 0)
        self.seats = len(sides[0]) + len(sides[1])

    def part(self, key: Any, groups: Groups, rank: int) -> InterContext:
        """Return the context of a communicator of some ranks of either group."""
        return InterContext(self.world, key, (groups[0], groups[1]), self.side, rank)

    def twin(self) -> InterContext:
        """Return a context of the same groups, whose messages never meet this one's."""
        return InterContext(self.world, self.key_of("dup"), self.sides, self.side, self.rank)
