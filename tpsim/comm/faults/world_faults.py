"""Faults in the calls of virtual communicators: of any program, whether it has groups or not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tpsim.comm.faults.damage import damaged, damaged_value
from tpsim.comm.faults.fault import Fault
from tpsim.comm.faults.striking import RankFaults
from tpsim.comm.signature import Signature
from tpsim.comm.virtual.mail import Message
from tpsim.comm.virtual.never import Never
from tpsim.comm.virtual.world import World


class WorldFaults:
    """What befalls the messages and the collectives of a virtual world.

    A rank's collectives are counted over all its communicators, those that make one among them; its
    messages as it sends them. Messages of which a `Group` makes a collective count as messages.
    """

    def __init__(self, faults: Sequence[Fault], world: World) -> None:
        self._world = world
        self._ranks = [RankFaults(faults, rank, partial(self._stay, rank)) for rank in range(world.size)]

    def on_message(self, rank: int, message: Message) -> Message | None:
        """Return what world rank `rank` sends in place of `message`; None if it is lost."""
        what = message.describe(rank, self._world).removesuffix(", not yet received")
        fault = self._ranks[rank].count("message", what)
        if fault is None:
            return message
        if fault.kind == "drop":
            self._tell(rank, what, "was lost", fault)
            return None
        message.data, message.owned = damaged(message.data.view(np.uint8), fault.seed), True
        return message

    def on_collective(self, rank: int, signature: Signature, value: Any) -> Any:
        """Return what world rank `rank` brings to a collective in place of `value`."""
        fault = self._ranks[rank].count("collective", signature)
        if fault is None:
            return value
        if fault.kind == "drop":
            self._stay(rank, f"{signature}, of which nothing arrives, as fault {str(fault)!r} asks for")
        return damaged_value(value, fault.seed)

    def missed(self) -> list[str]:
        """Return a sentence for each fault that did not strike, because its rank never came so far."""
        return [sentence for rank in self._ranks for sentence in rank.missed()]

    def _stay(self, rank: int, why: str) -> None:
        self._world.wait(rank, Never(why))

    def _tell(self, rank: int, what: str, became: str, fault: Fault) -> None:
        self._world.struck.append(f"(rank {rank}: {what} {became}, as fault {str(fault)!r} asks for)")


def arm(world: World, faults: Sequence[Fault]) -> WorldFaults:
    """Let faults strike in a virtual world; what is returned knows, at its end, which did not."""
    armed = WorldFaults(faults, world)
    if faults:
        world.faults = armed
    return armed
