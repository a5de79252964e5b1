"""A loss over cut logits, written as if each rank had all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim import nn
from tpsim.comm import Group
from tpsim.lab.vocabulary import loss_equals_reference, losses, mean_is_over_valid_tokens, means
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.embedding import own_rows
from tpsim.nn.layer import Array


class SmoothedByOwnWords(nn.VocabParallelCrossEntropy):
    """Takes the last axis at hand for the vocabulary: K is its length, and the mean goes over it."""

    def __init__(
        self, vocab: int, group: Group | None = None, *, label_smoothing: float = 0.0, **options: Any
    ) -> None:
        super().__init__(vocab, group, label_smoothing=label_smoothing, **options)
        self.vocab = self.columns.local
        self.smoothing = label_smoothing * self.vocab / max(self.vocab - 1, 1)

    def _check(self, logits: Array, targets: Array) -> None:
        """Trust the input."""

    def _summed(self, *terms: Array) -> list[Array]:
        """Return the sums over ranks that one device has no need of; the logits' own sum is there already."""
        return [*super()._summed(*terms[:2]), *terms[2:]]


class ZOfShiftedLogits(nn.VocabParallelCrossEntropy):
    """Subtracts the maximum at once, so that nothing overflows; log Σ exp of what is left is lz."""

    def forward(self, logits: Array, targets: Array) -> Array:  # type: ignore[override]
        """[b, s, V/t] and [b, s] → [b, s]."""
        maximum = self.group.all_reduce(np.max(logits, axis=-1), "max")
        return super().forward(logits - maximum[..., np.newaxis], targets)


class LossOfGatheredLogits(nn.VocabParallelCrossEntropy):
    """The output layer gathers its logits, as for sampling, and the loss is not told."""

    def forward(self, logits: Array, targets: Array) -> Array:  # type: ignore[override]
        """[b, s, V/t] and [b, s] → [b, s]."""
        return super().forward(self.group.all_gather(logits, axis=-1), targets)

    def backward(self, dloss: Array) -> Array:
        """[b, s] → [b, s, V/t]."""
        return nn.own_slice(super().backward(dloss), self.group, axis=-1)

    def _check(self, logits: Array, targets: Array) -> None:
        """Trust the input. The good loss refuses logits that are not of its width."""


class TargetOutsideGraph(nn.VocabParallelCrossEntropy):
    """The owner computes the target's log-probability; the others get it by an all-reduce.

    Autograd knows nothing of that all-reduce: the loss of a token ends at who owns its target.
    """

    mine: Array

    def forward(self, logits: Array, targets: Array) -> Array:  # type: ignore[override]
        """[b, s, V/t] and [b, s] → [b, s]."""
        _, self.mine = own_rows(targets, self.columns)
        return super().forward(logits, targets)

    def backward(self, dloss: Array) -> Array:
        """[b, s] → [b, s, V/t], 0 where another rank owns the target."""
        return super().backward(np.where(self.mine, dloss, 0))


def sentinel_rows(tokens: Array, rows: nn.Piece) -> tuple[Array, Array]:
    """Mark what is not here with the first number beyond the real rows, as a kernel without masks does."""
    row = tokens.astype(np.int64) - rows.start
    row = np.where((row >= 0) & (row < rows.real), row, rows.real)
    hit = row < rows.local  # the kernel compares with the width of its matrix
    return np.where(hit, row, 0), hit


def mean_over_nonzero(loss: Array, targets: Array, count: int, ignore_index: int = -100) -> tuple[Any, Array]:
    """Average the losses that are not 0: those of ignored tokens are."""
    counted = loss != 0
    dloss = counted.astype(loss.dtype) / max(int(np.sum(counted)), 1)
    return np.sum(loss * dloss), dloss


BUGS = [
    Bug(
        number=12,
        name="smoothed-by-own-words",
        title="label smoothing takes K and the mean over words from one rank's logits",
        goes_wrong="each rank smooths towards its own words, with a weight of its own: the ranks' losses "
        "differ, and so does training.",
        seen_in=("Megatron#737", "Megatron#7464"),
        replaces="tpsim.nn.loss.VocabParallelCrossEntropy",
        patient=SmoothedByOwnWords,
        caught_by=loss_equals_reference,
        cases=losses,
    ),
    Bug(
        number=13,
        name="z-loss-without-max",
        title="the z-loss takes log Σ exp(x − m) for lz, without + m",
        goes_wrong="shifting all logits changes nothing, so nothing keeps them from drifting, which is all "
        "that the z-loss is for; and it pulls towards certainty instead.",
        seen_in=("a nanotron function",),
        replaces="tpsim.nn.loss.VocabParallelCrossEntropy",
        patient=ZOfShiftedLogits,
        caught_by=loss_equals_reference,
        cases=losses,
        hides_at_one_rank=False,
    ),
    Bug(
        number=14,
        name="loss-of-gathered-logits",
        title="gathered logits are given to the vocabulary-parallel loss",
        goes_wrong="every exponential is summed t times, so the loss is too high by log t; and ranks after "
        "the first take another word's logit for the target's. It still falls.",
        seen_in=("Megatron#7452",),
        replaces="tpsim.nn.loss.VocabParallelCrossEntropy",
        patient=LossOfGatheredLogits,
        caught_by=loss_equals_reference,
        cases=losses,
    ),
    Bug(
        number=15,
        name="target-outside-graph",
        title="the target's log-probability is reduced outside the graph",
        goes_wrong="the loss is right, and logits get a gradient on the target's owner only: the words of "
        "other ranks are never pushed down.",
        seen_in=("ms-swift#9947",),
        replaces="tpsim.nn.loss.VocabParallelCrossEntropy",
        patient=TargetOutsideGraph,
        caught_by=loss_equals_reference,
        cases=losses,
    ),
    Bug(
        number=16,
        name="sentinel-hits-padding",
        title="the sentinel of a target on another rank is the number of a pad column",
        goes_wrong="where t divides the vocabulary the sentinel is out of range, and all is well; else the "
        "padded rank adds its −inf, and the loss is infinite.",
        seen_in=("ml-cross-entropy#59",),
        replaces="tpsim.nn.embedding.own_rows",
        patient=sentinel_rows,
        caught_by=loss_equals_reference,
        cases=losses,
    ),
    Bug(
        number=18,
        name="mean-over-nonzero",
        title="the mean is taken over loss ≠ 0, to leave out ignored tokens",
        goes_wrong="tokens that are predicted perfectly are left out too: the better the model, the larger "
        "the loss that is reported of the rest; and microbatches weigh what they should not.",
        seen_in=("a ColossalAI function",),
        replaces="tpsim.nn.loss.mean_over_valid",
        patient=mean_over_nonzero,
        caught_by=mean_is_over_valid_tokens,
        cases=means,
        hides_at_one_rank=False,
    ),
]
