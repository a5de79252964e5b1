"""Messages between virtual ranks, and the receives and probes that look for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import TruncationError
from tpsim.comm.places import Mark, called
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG
from tpsim.comm.virtual.misfit import misfit

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

Box = tuple[int, int]
"""(communicator, receiving rank within it)"""


class Into(Protocol):
    """Memory that a message is received into."""

    @property
    def nbytes(self) -> int:
        """How many bytes of data fit."""

    def unpack(self, values: NDArray[Any]) -> None:
        """Write a message's data."""


class Message(Completion):
    """What one rank sends: 1-D data. It is done when the sender may go on.

    Attributes
    ----------
    box : Box
        Where to.
    source, sender : int
        The sending rank within the communicator, and within the world.
    dtype : numpy.dtype or None
        Of the data's basic elements; None for bytes, which fit any type: pickled objects among them.
    owned : bool
        Whether the data are the message's own, and not the sender's memory.
    taken : bool
        Whether it has reached its receive, or a matched probe.
    keeper : Keeper or None
        Whoever wants to hear when it has.
    """

    __slots__ = (
        "_begun",
        "box",
        "cancelled",
        "data",
        "dtype",
        "is_object",
        "keeper",
        "owned",
        "sender",
        "source",
        "tag",
        "taken",
    )

    def __init__(
        self,
        box: Box,
        source: int,
        sender: int,
        tag: int,
        data: NDArray[Any],
        dtype: np.dtype[Any] | None = None,
        is_object: bool = False,
        owned: bool = False,
        begun: Mark = (),
    ) -> None:
        self.done = False
        self.waiters = []
        self.box = box
        self.source = source
        self.sender = sender
        self.tag = tag
        self.data = data
        self.dtype = dtype
        self.is_object = is_object
        self.owned = owned
        self.taken = False
        self.cancelled = False
        self.keeper: Keeper | None = None
        self._begun = begun

    def describe(self, rank: int, world: World) -> str:
        """Say what the sender is doing."""
        to = world.members[self.box[0]][self.box[1]]
        call = called(self._begun) or "send"
        yet = "" if self.taken else ", not yet received"
        return f"{call}(to rank {to}, tag {self.tag}, {self.data.nbytes} bytes){yet}"

    def begun(self, rank: int) -> Mark:
        """Return the line from which it was sent."""
        return self._begun


class Keeper(Protocol):
    """Whoever lent a message its memory."""

    def took(self, message: Message) -> None:
        """Note that the message was received. Called with the world's lock held."""


class Receive(Completion):
    """What one rank waits to receive: into memory, or any object (`buffer` is None).

    Attributes
    ----------
    source : int
        A rank within the communicator, or ANY_SOURCE.
    peers : sequence of int
        World ranks of those who may send.
    dtype : numpy.dtype or None
        Of the buffer's basic elements; None for bytes.
    message : Message or None
        What came.
    """

    __slots__ = (
        "_begun",
        "box",
        "buffer",
        "cancelled",
        "dtype",
        "error",
        "message",
        "peers",
        "source",
        "tag",
    )

    consumes = True
    """Whether it takes the message's data."""

    def __init__(
        self,
        box: Box,
        peers: Sequence[int],
        source: int,
        tag: int,
        buffer: Into | None = None,
        dtype: np.dtype[Any] | None = None,
        begun: Mark = (),
    ) -> None:
        self.done = False
        self.waiters = []
        self.box = box
        self.source = source
        self.peers = peers
        self.tag = tag
        self.buffer = buffer
        self.dtype = dtype
        self.message: Message | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self._begun = begun

    def takes(self, message: Message) -> bool:
        """Tell whether source and tag fit."""
        return self.source in (message.source, ANY_SOURCE) and self.tag in (message.tag, ANY_TAG)

    def accept(self, message: Message) -> None:
        """Copy the message's data into the buffer, or remember why that can't be done."""
        self.message, message.taken = message, True
        buffer = self.buffer
        fits = (
            buffer is not None
            and message.dtype is self.dtype
            and message.data.nbytes <= buffer.nbytes
            and not message.is_object
        )
        if not fits and (why := misfit(message, self)):
            self.error = TruncationError(why)
        elif buffer is not None:  # an object is unpickled by the receiving rank, in its own time
            buffer.unpack(message.data)

    def describe(self, rank: int, world: World) -> str:
        """Say what the receiver is doing."""
        return f"{called(self._begun) or 'recv'}({self.asked()})"

    def asked(self) -> str:
        """Name the source and the tag."""
        source = "any rank" if self.source == ANY_SOURCE else f"rank {self.peers[self.source]}"
        tag = "any tag" if self.tag == ANY_TAG else f"tag {self.tag}"
        return f"from {source}, {tag}"

    def begun(self, rank: int) -> Mark:
        """Return the line from which it was begun."""
        return self._begun


class MatchedProbe(Receive):
    """Takes a message out of the box, for a receive that comes later."""

    __slots__ = ()
    consumes = False

    def accept(self, message: Message) -> None:
        """Remember the message."""
        self.message = message

    def describe(self, rank: int, world: World) -> str:
        """Say what the prober is doing."""
        return f"{called(self._begun) or 'probe'}({self.asked()})"


class Probe(MatchedProbe):
    """Looks at a message, and leaves it in the box."""

    __slots__ = ()
