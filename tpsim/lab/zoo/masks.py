"""Dropout masks that are the same where they must differ, and differ where they must be the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from tpsim.lab.masking import dropouts, drops_the_same
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.dropout import Dropout
from tpsim.nn.layer import Array
from tpsim.nn.masks import Draw, keep_mask
from tpsim.nn.recompute import is_rerun


def one_mask_for_all(
    draw: Draw, site: str, rate: float, part: int, shape: tuple[int, ...], like: Array | None = None
) -> NDArray[Any]:
    """Draw what this rank needs, from the seed that all ranks have."""
    return keep_mask(draw, site, rate, 0, shape, like)


class AdvancingDropout(Dropout):
    """Draws from a generator that goes on with each call: a second run gets what comes next."""

    def forward(self, x: Array) -> Array:
        """Same shape."""
        if self.draw and is_rerun():
            self.draw = replace(self.draw, step=self.draw.step + 1)
        return super().forward(x)


BUGS = [
    Bug(
        number=26,
        name="one-mask-for-all-shards",
        title="all shards have one and the same dropout mask",
        goes_wrong="heads 0, a/t, 2a/t … drop the same entries: less regularisation than asked for, and "
        "other losses at every t.",
        seen_in=("tt-metal#55947",),
        replaces="tpsim.nn.masks.part_mask",
        patient=one_mask_for_all,
        caught_by=drops_the_same,
        cases=dropouts,
    ),
    Bug(
        number=26,
        name="rng-not-restored",
        title="the random generator is not put back for the forward that runs again",
        goes_wrong="backward sees other masks than the loss did: a gradient of no function. One rank has it "
        "too; without recompute, or without dropout, nobody does.",
        seen_in=("OLMo-core#828",),
        replaces="tpsim.nn.dropout.Dropout",
        patient=AdvancingDropout,
        caught_by=drops_the_same,
        cases=dropouts,
        hides_at_one_rank=False,
    ),
]
