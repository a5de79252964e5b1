"""Waiting for nothing: what a rank does that stalls because a fault was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpsim.comm.places import Mark
from tpsim.comm.virtual.completion import Completion

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


class Never(Completion):
    """Something that will not be done; `why` says what the rank does meanwhile."""

    __slots__ = ("_why",)

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def describe(self, rank: int, world: World) -> str:
        """Say why the rank waits."""
        return self._why

    def begun(self, rank: int) -> Mark:
        """Return no line: where the rank waits is where it stalled."""
        return ()
