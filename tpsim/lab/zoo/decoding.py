"""Text that goes wrong while it is generated, and would not if it were computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tpsim.infer.cache import KVCache, Step
from tpsim.infer.sampling import Place, Sampler
from tpsim.lab.decoding import a_cache_changes_nothing, decodes, ranks_choose_alike, samples
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array


class OnePositionForAll(Step):
    """Counts positions once for the batch: where the longest row is."""

    def __init__(self, cache: KVCache, rows: slice, starts: list[int], count: int) -> None:
        super().__init__(cache, rows, starts, count)
        self.positions = slice(max(starts), max(starts) + count)
        self.tables = cache.tables and [table[self.positions] for table in cache.tables]


class RolledTooEarly(Step):
    """Makes room in a full window before it is full: when the last free slot is about to be taken."""

    def _slots(self, new: Array, even: bool) -> Any:
        if self.cache.slots == self.cache.window:
            new = new + (new >= self.cache.window - 1)
        return super()._slots(new, even)


class OwnDice(Sampler):
    """Draws on each rank by itself."""

    def _noise(self, words: Array, places: Sequence[Place]) -> Array:
        shared = self.sampling
        self.sampling = replace(shared, seed=shared.seed + 1000 * self.group.rank)
        try:
            return super()._noise(words, places)
        finally:
            self.sampling = shared


BUGS = [
    Bug(
        number=34,
        name="one-position-for-all",
        title="in a batch of different lengths all rows are taken to be as long as the longest",
        goes_wrong="right for one sequence at a time, and for the longest of each batch; all others are "
        "turned by the angles of positions where they aren't, and write nonsense.",
        seen_in=("unsloth#3803",),
        replaces="tpsim.infer.cache.Step",
        patient=OnePositionForAll,
        caught_by=a_cache_changes_nothing,
        cases=decodes,
        hides_at_one_rank=False,
    ),
    Bug(
        number=35,
        name="window-rolled-too-early",
        title="a sliding window's cache drops its oldest position one step before it is full",
        goes_wrong="right as long as the text is shorter than the window, and again some windows later; in "
        "between a position that is in sight is missing, and an empty slot is seen in its place.",
        seen_in=("transformers#37574",),
        replaces="tpsim.infer.cache.Step",
        patient=RolledTooEarly,
        caught_by=a_cache_changes_nothing,
        cases=decodes,
        hides_at_one_rank=False,
    ),
    Bug(
        number=36,
        name="own-dice",
        title="each rank draws the next word by itself",
        goes_wrong="greedy text is right. With a temperature ranks go on from different words, and their "
        "all-reduces add up the shards of different texts.",
        seen_in=("gpt-oss#270", "transformers#36634"),
        replaces="tpsim.infer.sampling.Sampler",
        patient=OwnDice,
        caught_by=ranks_choose_alike,
        cases=samples,
    ),
]
