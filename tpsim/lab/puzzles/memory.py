"""A device's memory: what is in it, and what may be done to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpsim.lab.puzzles.device import Block
from tpsim.lab.puzzles.shard import ScheduleError, Shard


@dataclass
class Memory:
    """A device's blocks, by number.

    Attributes
    ----------
    shards : dict
        What each is, or was.
    nbytes : dict
        Of those that are held.
    gone : dict
        Why the others are not there any more.
    travelling : dict
        The collective that still sends it.
    peak, peak_line : int
        The most bytes ever held, and since which line.
    """

    shards: dict[int, Shard] = field(default_factory=dict)
    nbytes: dict[int, int] = field(default_factory=dict)
    gone: dict[int, str] = field(default_factory=dict)
    travelling: dict[int, str] = field(default_factory=dict)
    peak: int = 0
    peak_line: int = 0

    def get(self, block: Block) -> Shard:
        """Return what a block means."""
        if block.number in self.gone:
            raise ScheduleError(
                "not there any more", f"the block was {self.gone[block.number]}", "use it before, or keep it"
            )
        if block.number not in self.shards:
            raise ScheduleError("not there", "the block is none of this device's", "devices share nothing")
        shard = self.shards[block.number]
        return shard.T if block.transposed else shard

    def held(self) -> list[Shard]:
        """Return all that is there."""
        return [shard for number, shard in self.shards.items() if number in self.nbytes]

    def free(self, block: Block, why: str) -> None:
        """Let go of a block; one that is being sent may not be touched."""
        self.get(block)
        if block.number in self.travelling:
            raise ScheduleError(
                "still travelling",
                f"the block is still being sent by the {self.travelling[block.number]}",
                "`wait` for that first",
            )
        del self.nbytes[block.number]
        self.gone[block.number] = why

    def hold(self, number: int, nbytes: int, line: int) -> None:
        """Take memory for a block."""
        self.nbytes[number] = nbytes
        if (now := sum(self.nbytes.values())) > self.peak:
            self.peak, self.peak_line = now, line
