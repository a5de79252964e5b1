"""Cases and property of greedy sampling: the word that has the largest of the gathered logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim import nn, reference
from tpsim.comm import run
from tpsim.lab.cases import Array, Case
from tpsim.lab.strategies import HIDDEN, RANKS, draw_common, draw_switches, picker
from tpsim.lab.tolerance import TOLERANCE
from tpsim.lab.violation import Violation


@dataclass(frozen=True, kw_only=True, repr=False)
class HeadCase(Case):
    """An `LMHead` whose logits are scaled by `scale`, and all below 0 if `negative`."""

    vocab: int = 1
    hidden: int = 4
    scale: float = 1.0
    negative: bool = False

    def draw(self) -> tuple[Array, Array]:
        """Return the whole weight and x."""
        rng = np.random.default_rng(self.seed)
        weight = self.scale * rng.standard_normal((self.vocab, self.hidden))
        x = rng.standard_normal((self.batch, self.seq, self.hidden))
        if self.negative:
            weight, x = -np.abs(weight), np.abs(x)
        return weight.astype(self.dtype), x.astype(self.dtype)


@st.composite
def heads(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> HeadCase:
    """Output layers of any vocabulary, also with all logits some thousands below 0."""
    pick = picker(draw, fixed)
    return HeadCase(
        vocab=pick("vocab", st.integers(1, 20)),
        hidden=pick("hidden", HIDDEN),
        scale=pick("scale", st.sampled_from([1.0, 1000.0])),
        **draw_switches(pick, "negative"),
        **draw_common(pick, ranks),
    )


def pads_never_win(case: HeadCase) -> None:
    """The largest of the ranks' gathered logits is a real word's, and the one that one device picks.

    Where two words are as likely but for rounding, either will do.
    """
    weight, x = case.draw()

    def main(comm: Any) -> Array:
        group = case.group(comm)
        head = nn.LMHead(case.vocab, case.hidden, group, dtype=case.dtype)
        head.load({"weight": weight})
        words: Array = np.argmax(group.all_gather(head.forward(x), axis=-1), axis=-1)
        return words

    wide_weight, wide_x = weight.astype(np.float64), x.astype(np.float64)
    logits, _ = reference.logits({"weight": wide_weight}, wide_x)
    rounding = TOLERANCE[case.dtype] * np.max(np.abs(wide_x) @ np.abs(wide_weight).T)
    for rank, word in enumerate(run(main, case.ranks)):
        if np.max(word) >= case.vocab:
            raise Violation(
                f"t = {case.ranks}: rank {rank} samples word {np.max(word)}, which is padding of a "
                f"vocabulary of {case.vocab}; {case}"
            )
        chosen = np.take_along_axis(logits, word[..., np.newaxis], axis=-1)[..., 0]
        if not np.all(chosen >= np.max(logits, axis=-1) - rounding):
            raise Violation(f"t = {case.ranks}: rank {rank} samples a word that is not the likeliest; {case}")
