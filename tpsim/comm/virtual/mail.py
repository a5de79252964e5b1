"""Messages between virtual ranks, matched as the MPI standard has it.

A receive takes the earliest message that fits its source and tag; a message goes to the earliest
receive that it fits. So messages from one rank to another with one tag never overtake each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import TruncationError
from tpsim.comm.places import Mark
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.constants import ANY_SOURCE, ANY_TAG

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

Box = tuple[int, int]
"""(communicator, receiving rank within it)"""


class Message(Completion):
    """What one rank sends: a typed 1-D array, or a pickled object (`dtype` is None, data its bytes)."""

    __slots__ = ("_begun", "box", "data", "dtype", "source", "tag")

    def __init__(
        self, box: Box, source: int, tag: int, data: NDArray[Any], *, is_object: bool, begun: Mark = ()
    ) -> None:
        super().__init__()
        self.box = box
        self.source = source  # rank within the communicator
        self.tag = tag
        self.data = data
        self.dtype = None if is_object else data.dtype
        self._begun = begun

    def describe(self, rank: int, world: World) -> str:
        """Say what the sender is doing."""
        to = world.members[self.box[0]][self.box[1]]
        return f"send(to rank {to}, tag {self.tag}, {self.data.nbytes} bytes), not yet received"

    def begun(self, rank: int) -> Mark:
        """Return the line from which it was sent."""
        return self._begun


class Receive(Completion):
    """What one rank waits to receive: into a typed 1-D buffer, or any object (`buffer` is None)."""

    __slots__ = ("_begun", "box", "buffer", "error", "message", "source", "tag")

    def __init__(
        self, box: Box, source: int, tag: int, buffer: NDArray[Any] | None, *, begun: Mark = ()
    ) -> None:
        super().__init__()
        self.box = box
        self.source = source
        self.tag = tag
        self.buffer = buffer
        self.message: Message | None = None
        self.error: Exception | None = None
        self._begun = begun

    def takes(self, message: Message) -> bool:
        """Tell whether source and tag fit."""
        return self.source in (message.source, ANY_SOURCE) and self.tag in (message.tag, ANY_TAG)

    def accept(self, message: Message) -> None:
        """Copy the message's data into the buffer, or remember why that can't be done."""
        self.message = message
        buffer, data = self.buffer, message.data
        if (buffer is None) != (message.dtype is None):
            sent, wanted = ("an object", "a buffer") if message.dtype is None else ("a buffer", "an object")
            self.error = TruncationError(
                f"recv: rank {message.source} sent {sent} and rank {self.box[1]} receives {wanted}; "
                "use the capital form (Send, Recv) or the lower-case form (send, recv) on both sides"
            )
        elif buffer is None:
            pass  # unpickled by the receiving rank, in its own time
        elif message.dtype != buffer.dtype:
            self.error = TruncationError(
                f"recv: rank {message.source} sent {message.dtype} and the buffer of rank {self.box[1]} is "
                f"{buffer.dtype}; receive into the sender's dtype"
            )
        elif data.size > buffer.size:
            self.error = TruncationError(
                f"recv: rank {message.source} sent {data.size} elements and the buffer of rank {self.box[1]} "
                f"holds {buffer.size}; make the buffer at least as long as the message"
            )
        else:
            np.copyto(buffer[: data.size], data)

    def describe(self, rank: int, world: World) -> str:
        """Say what the receiver is doing."""
        members = world.members[self.box[0]]
        source = "any rank" if self.source == ANY_SOURCE else f"rank {members[self.source]}"
        tag = "any tag" if self.tag == ANY_TAG else f"tag {self.tag}"
        return f"recv(from {source}, {tag})"

    def begun(self, rank: int) -> Mark:
        """Return the line from which it was begun."""
        return self._begun


class Mailbox:
    """Messages nobody has asked for yet, and receives nothing has come for yet."""

    def __init__(self) -> None:
        self._messages: defaultdict[Box, list[Message]] = defaultdict(list)
        self._receives: defaultdict[Box, list[Receive]] = defaultdict(list)

    def match_message(self, message: Message) -> Receive | None:
        """Return the receive that this message goes to, or keep the message."""
        waiting = self._receives[message.box]
        for position, receive in enumerate(waiting):
            if receive.takes(message):
                return waiting.pop(position)
        self._messages[message.box].append(message)
        return None

    def match_receive(self, receive: Receive) -> Message | None:
        """Return the message that this receive takes, or keep the receive."""
        message = self.probe(receive)
        if message is None:
            self._receives[receive.box].append(receive)
        else:
            self._messages[receive.box].remove(message)
        return message

    def probe(self, receive: Receive) -> Message | None:
        """Return the message that this receive would take, and leave it here."""
        return next((m for m in self._messages[receive.box] if receive.takes(m)), None)

    def undelivered(self) -> Iterator[Message]:
        """Yield the messages that nobody received."""
        for waiting in self._messages.values():
            yield from waiting

    def unmet(self) -> Iterator[Receive]:
        """Yield the receives that nothing came for."""
        for waiting in self._receives.values():
            yield from waiting
