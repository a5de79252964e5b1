"""Sending, receiving and probing among virtual ranks, whichever way they wait."""

from __future__ import annotations

import threading
from typing import Any, Literal, Protocol

from tpsim.comm.signature import Signature
from tpsim.comm.virtual.mail import Message, Probe, Receive
from tpsim.comm.virtual.mailbox import Mailbox

Mode = Literal["standard", "synchronous", "buffered", "ready"]
"""When a send is done: as it suits, once its receive has begun, at once; or its receive must be there."""


class Faults(Protocol):
    """What may befall a rank's calls, on purpose."""

    def on_message(self, rank: int, message: Message) -> Message | None:
        """Return what world rank `rank` sends in place of `message`; None if it is lost."""

    def on_collective(self, rank: int, signature: Signature, value: Any) -> Any:
        """Return what world rank `rank` brings to a collective in place of `value`."""


class PostOffice:
    """Takes messages, and gives them to who asked for them.

    Parameters
    ----------
    eager_bytes : int
        A send up to this size is buffered and returns at once; a longer one waits for its receive.
        With 0 every send waits.

    Attributes
    ----------
    faults : Faults or None
        What befalls the ranks' calls.
    attached : dict
        Memory that ranks lent for buffered sends.
    moves : int
        All that ranks did, other than polling.
    """

    def __init__(self, eager_bytes: int) -> None:
        self.eager_bytes = eager_bytes
        self.lock = threading.Lock()  # guards the whole world; never held while a rank waits
        self.mail = Mailbox()
        self.faults: Faults | None = None
        self.attached: dict[tuple[int, int], Any] = {}
        self.moves = 0

    def send(self, message: Message, mode: Mode = "standard") -> bool:
        """Start a send. `message.done` says whether its data may be changed.

        Returns
        -------
        bool
            False if it is a ready send, and its receive is not there.
        """
        if self.faults is not None:
            struck = self.faults.on_message(message.sender, message)
            if struck is None:
                message.done = True
                with self.lock:
                    self._gone(message)
                return True
            message = struck
        with self.lock:
            self.moves += 1
            receive = self.mail.match_message(message)
            if receive is None:
                if mode == "ready":
                    return False
                if mode == "buffered" or (mode == "standard" and 0 < self.eager_bytes >= message.data.nbytes):
                    if not message.owned:
                        message.data = message.data.copy()
                    message.done = True
                for probe in self.mail.keep(message):
                    probe.accept(message)
                    probe.complete()
                return True
        self.deliver(message, receive)
        return True

    def receive(self, receive: Receive) -> None:
        """Start a receive."""
        with self.lock:
            self.moves += 1
            message = self.mail.match_receive(receive)
            if message is None:
                return
        self.deliver(message, receive)

    def deliver(self, message: Message, receive: Receive) -> None:
        """Give a message that left the mailbox to its receive."""
        receive.accept(message)  # outside the lock: copies of other ranks' messages go on meanwhile
        with self.lock:
            if receive.consumes:
                message.complete()
                self._gone(message)
            receive.complete()

    def _gone(self, message: Message) -> None:
        if message.keeper is not None:
            message.keeper.took(message)

    def probe(self, probe: Probe, *, stay: bool) -> None:
        """Look for a message; if there is none, `stay` to be told of the first that comes."""
        with self.lock:
            message = self.mail.await_message(probe) if stay else self.mail.probe(probe)
            if message is not None:
                probe.accept(message)
                probe.complete()

    def match(self, probe: Receive) -> bool:
        """Take a message out of the mailbox, if one is there that fits."""
        with self.lock:
            message = self.mail.probe(probe)
            if message is None:
                return False
            self.moves += 1
            self.mail.withdraw(message)
            probe.accept(message)
            probe.complete()
            return True

    def cancel(self, item: Message | Receive) -> None:
        """Take back a message or a receive, if it has met none."""
        with self.lock:
            if self.mail.withdraw(item):
                self.moves += 1
                item.cancelled = True
                item.complete()
                if isinstance(item, Message):
                    self._gone(item)
