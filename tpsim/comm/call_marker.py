"""Where a rank leaves word of the call it is in, for whoever has to explain a hang."""

from __future__ import annotations

from typing import Any, Protocol

from tpsim.comm.signature import Signature


class CallMarker(Protocol):
    """Takes word of the calls that a rank makes."""

    def enter(self, call: Signature) -> None:
        """Note that the rank is now in `call`."""

    def leave(self) -> None:
        """Note that the rank is no longer in a call."""


class VirtualCallMarker:
    """Tells the virtual world, whose diagnosis asks when ranks wait for each other."""

    def __init__(self, calling: list[Any], rank: int) -> None:
        self._calling = calling
        self._rank = rank

    def enter(self, call: Signature) -> None:
        """Note the call."""
        self._calling[self._rank] = call

    def leave(self) -> None:
        """Forget it."""
        self._calling[self._rank] = None
