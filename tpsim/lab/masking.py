"""Blocks that drop entries: on any number of ranks, and run again or not, they drop what one device drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim import nn, reference
from tpsim.comm import Group
from tpsim.lab.cases import Array, BlockCase
from tpsim.lab.magnitude import magnitudes
from tpsim.lab.oracle import Whole, attention_options, one_device
from tpsim.lab.properties import equals_reference, replicas_agree
from tpsim.lab.running import run_case
from tpsim.lab.strategies import RANKS, blocks, picker
from tpsim.lab.tolerance import Error
from tpsim.lab.violation import Violation
from tpsim.nn.cached import Cached
from tpsim.nn.masks import Draw, drawing, keep_mask
from tpsim.nn.recompute import Recompute

STEP = 3
# What little a high rate leaves, scaled up, amplifies rounding by 100 and more, on one device as on many.
RATES = {"float64": [0.0, 0.1, 0.5, 0.8], "float32": [0.0, 0.1, 0.4]}


@dataclass(frozen=True, kw_only=True, repr=False)
class DropoutCase(BlockCase):
    """A `TransformerBlock` in training."""

    dropout: float = 0.0
    attention_dropout: float = 0.0
    recompute: Recompute = "none"

    def drawn(self) -> Draw:
        """Return what the masks are drawn for: samples with gaps, in any order."""
        rng = np.random.default_rng((self.seed, STEP))
        return Draw(self.seed, STEP, [int(n) for n in rng.permutation(2 * self.batch)[: self.batch]])

    def build(self, group: Group | None) -> nn.Layer:
        """Return this rank's block, which draws masks whenever it runs forward."""
        block = BlockInTraining(
            self.hidden,
            self.heads,
            self.ffn,
            group,
            norm=self.norm,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            recompute=self.recompute,
            **self.options(),
        )
        block.drawn = self.drawn()
        return block

    def masks(self) -> dict[str, Array]:
        """Return the masks that one device draws."""
        row, scores = (self.batch, self.seq, self.hidden), (self.batch, self.heads, self.seq, self.seq)
        sites = {
            "attention.dropout": (self.attention_dropout, scores),
            "dropout1": (self.dropout, row),
            "dropout2": (self.dropout, row),
        }
        return {site: keep_mask(self.drawn(), site, rate, 0, shape) for site, (rate, shape) in sites.items()}


class BlockInTraining(nn.TransformerBlock):
    """Runs forward inside `drawing`; backward outside, for the masks are kept, or the key to them."""

    drawn: Draw

    def forward(self, x: Array, cached: Cached | None = None) -> Array:
        """[b, s, h] → [b, s, h]."""
        with drawing(self.drawn.seed, self.drawn.step, self.drawn.samples):
            return super().forward(x, cached)


@one_device.register
def _block(case: DropoutCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> Whole:
    options = attention_options(case) | {
        "activation": case.activation,
        "dropout": case.dropout,
        "attention_dropout": case.attention_dropout,
        "masks": case.masks(),
    }
    y, cache = reference.block(parameters, x, **options)
    return Whole(y, *reference.block_grad(parameters, cache, dy, **options))


@magnitudes.register
def _of_block(case: DropoutCase, parameters: Mapping[str, Array], x: Array, dy: Array) -> dict[str, Array]:
    """A gradient may be small because all but a few of its terms were dropped; y's terms were not."""
    whole = one_device(case, parameters, x, dy)
    return dict.fromkeys(whole.tensors(), np.max(np.abs(whole.y)))


@st.composite
def dropouts(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> DropoutCase:
    """Blocks with dropout, recomputed or not."""
    own = {field.name for field in fields(DropoutCase)} - {field.name for field in fields(BlockCase)}
    of_block = {name: value for name, value in fixed.items() if name not in own}
    block = draw(blocks(ranks=ranks, **{"qk_norm": False, "flash": False, **of_block}))
    pick = picker(draw, fixed)
    rates = st.sampled_from(RATES[block.dtype])
    return DropoutCase(
        **{field.name: getattr(block, field.name) for field in fields(block)},
        dropout=pick("dropout", rates),
        attention_dropout=pick("attention_dropout", rates),
        recompute=pick("recompute", st.sampled_from(["none", "selective", "full"])),
    )


def drops_the_same(case: DropoutCase) -> list[Error]:
    """The block equals the reference with whole masks; recomputed, it gives the same bits as if kept."""
    ran = run_case(case)
    errors = equals_reference(case, ran)
    replicas_agree(case, ran)
    if case.recompute != "none":
        kept = run_case(replace(case, recompute="none"))
        before = {**kept.outputs(), **{name: [grad] for name, grad in kept.gradients().items()}}
        after = {**ran.outputs(), **{name: [grad] for name, grad in ran.gradients().items()}}
        for name, copies in before.items():
            if not all(map(np.array_equal, copies, after[name])):
                raise Violation(f"t = {case.ranks}: recomputed, {name} has other bits; {case}")
    return errors
