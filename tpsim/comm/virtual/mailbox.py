"""Where messages meet receives, as the MPI standard has it.

A receive takes the earliest message that fits its source and tag; a message goes to the earliest
receive that it fits. So messages from one rank to another with one tag never overtake each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tpsim.comm.virtual.mail import Box, Message, Probe, Receive


class Mailbox:
    """Messages nobody has asked for yet, and receives nothing has come for yet."""

    def __init__(self) -> None:
        self._messages: defaultdict[Box, list[Message]] = defaultdict(list)
        self._receives: defaultdict[Box, list[Receive]] = defaultdict(list)
        self._probes: defaultdict[Box, list[Probe]] = defaultdict(list)

    def match_message(self, message: Message) -> Receive | None:
        """Return the receive that this message goes to."""
        waiting = self._receives.get(message.box, ())
        for position, receive in enumerate(waiting):
            if receive.takes(message):
                return self._receives[message.box].pop(position)
        return None

    def keep(self, message: Message) -> list[Probe]:
        """Keep a message for later; return the probes that waited for one like it."""
        self._messages[message.box].append(message)
        if message.box not in self._probes:
            return []
        waiting = self._probes.pop(message.box)
        content = [probe for probe in waiting if probe.takes(message)]
        others = [probe for probe in waiting if not probe.takes(message)]
        if others:
            self._probes[message.box] = others
        return content

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
        for message in self._messages.get(receive.box, ()):
            if receive.takes(message):
                return message
        return None

    def await_message(self, probe: Probe) -> Message | None:
        """Return the message that a probe looks for, or keep the probe."""
        message = self.probe(probe)
        if message is None:
            self._probes[probe.box].append(probe)
        return message

    def withdraw(self, item: Message | Receive) -> bool:
        """Take back a message or a receive that has met none; return whether it was here."""
        waiting: list[Any] = (self._messages if isinstance(item, Message) else self._receives)[item.box]
        if item not in waiting:
            return False
        waiting.remove(item)
        return True

    def undelivered(self) -> Iterator[Message]:
        """Yield the messages that nobody received."""
        for waiting in self._messages.values():
            yield from waiting

    def unmet(self) -> Iterator[Receive]:
        """Yield the receives that nothing came for."""
        for waiting in self._receives.values():
            yield from waiting
