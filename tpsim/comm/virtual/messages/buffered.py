"""Buffered sends: a program lends memory, into which messages are copied that nobody receives yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpsim.comm.places import Mark
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.current import current_rank
from tpsim.comm.virtual.data.constants import BSEND_OVERHEAD
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.marks import BUFFER_AUTOMATIC
from tpsim.comm.virtual.data.rows import row
from tpsim.comm.virtual.mail import Message
from tpsim.comm.virtual.messages.request import Request
from tpsim.comm.virtual.messages.traffic import Traffic

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class AttachedBuffer:
    """Memory that a program lent.

    Parameters
    ----------
    memory : buffer, BUFFER_AUTOMATIC or None
        Without a buffer it is as large as it has to be.
    """

    def __init__(self, memory: Any, call: str) -> None:
        self.memory = BUFFER_AUTOMATIC if memory is None else memory
        automatic = self.memory is BUFFER_AUTOMATIC
        self._nbytes = None if automatic else row(memory, call, writable=True).nbytes
        self._messages: list[Message] = []
        self._flushes: list[Flush] = []

    def lend(self, message: Message, call: str) -> None:
        """Give a message its place; it keeps that until somebody receives it."""
        needed = message.data.nbytes + BSEND_OVERHEAD
        used = sum(other.data.nbytes + BSEND_OVERHEAD for other in self._messages)
        if self._nbytes is not None and used + needed > self._nbytes:
            raise error(
                "ERR_BUFFER",
                f"{call}: the message needs {needed} bytes ({message.data.nbytes} and BSEND_OVERHEAD) and "
                f"the attached buffer has {self._nbytes - used} of {self._nbytes} left; attach a larger one, "
                "or let messages be received before sending more",
            )
        self._messages.append(message)
        message.keeper = self

    def took(self, message: Message) -> None:
        """Have the place back: the message was received. Called with the world's lock held."""
        self._messages.remove(message)
        if not self._messages:
            for flush in self._flushes:
                flush.complete()
            self._flushes.clear()

    def flush(self) -> Flush:
        """Return what is done when all messages are received. Called with the world's lock held."""
        flush = Flush(self._messages)
        if self._messages:
            self._flushes.append(flush)
        else:
            flush.done = True
        return flush


class Flush(Completion):
    """Done when the messages in an attached buffer are received."""

    __slots__ = ("_messages",)

    def __init__(self, messages: list[Message]) -> None:
        super().__init__()
        self._messages = messages

    def describe(self, rank: int, world: World) -> str:
        """Name the first message that is still there."""
        return f"wait for buffered messages: {self._messages[0].describe(rank, world)}"

    def begun(self, rank: int) -> Mark:
        """Return the line that sent the first message that is still there."""
        return self._messages[0].begun(rank)


class BufferedMessages(Traffic):
    """A communicator's own attached buffer; without it, its buffered sends use the rank's."""

    def Attach_buffer(self, buf: Any) -> None:
        """Lend memory for the buffered sends of this communicator."""
        attach(self.world, self._key(), buf, "Attach_buffer")

    def Detach_buffer(self) -> Any:
        """Return the memory, once all messages in it are received."""
        return detach(self.world, self._me, self._key(), "Detach_buffer")

    def Flush_buffer(self) -> None:
        """Wait until all messages in the communicator's attached buffer are received."""
        self.Iflush_buffer().Wait()

    def Iflush_buffer(self) -> Request:
        """Return a request that is complete when they are."""
        return flush(self.world, self._me, self._key(), "Iflush_buffer")

    def _key(self) -> tuple[int, int]:
        return self._id, self._me

    def _lend(self, message: Message, call: str) -> None:
        attached = self.world.attached
        lender = attached.get(self._key()) or attached.get(_of_rank(self._me))
        if lender is None:
            raise error(
                "ERR_BUFFER",
                f"{call}: there is no buffer to put the message into; call MPI.Attach_buffer first",
            )
        with self.world.lock:
            lender.lend(message, call)


def Attach_buffer(buf: Any) -> None:
    """Lend memory for this rank's buffered sends."""
    world, rank = current_rank("Attach_buffer")
    attach(world, _of_rank(rank), buf, "Attach_buffer")


def Detach_buffer() -> Any:
    """Return this rank's attached buffer, once all messages in it are received."""
    world, rank = current_rank("Detach_buffer")
    return detach(world, rank, _of_rank(rank), "Detach_buffer")


def Flush_buffer() -> None:
    """Wait until all messages in this rank's attached buffer are received."""
    Iflush_buffer().Wait()


def Iflush_buffer() -> Request:
    """Return a request that is complete when they are."""
    world, rank = current_rank("Iflush_buffer")
    return flush(world, rank, _of_rank(rank), "Iflush_buffer")


def attach(world: World, key: tuple[int, int], memory: Any, call: str) -> None:
    """Keep an attached buffer under `key`."""
    if key in world.attached:
        raise error("ERR_BUFFER", f"{call}: a buffer is attached already; call Detach_buffer first")
    world.attached[key] = AttachedBuffer(memory, call)


def detach(world: World, rank: int, key: tuple[int, int], call: str) -> Any:
    """Return the attached buffer's memory when it is free."""
    flush(world, rank, key, call).Wait()
    return world.attached.pop(key).memory


def flush(world: World, rank: int, key: tuple[int, int], call: str) -> Request:
    """Return a request for the attached buffer to be free."""
    if key not in world.attached:
        raise error("ERR_BUFFER", f"{call}: no buffer is attached; call Attach_buffer first")
    with world.lock:
        free = world.attached[key].flush()
    return Request.begun(world, rank, free)


def _of_rank(rank: int) -> tuple[int, int]:
    return -1, rank
