"""Cross-entropy over logits that are cut along the vocabulary: the logits are never gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group, solo
from tpsim.functional import widen
from tpsim.nn.embedding import check_tokens, own_rows
from tpsim.nn.layer import Layer
from tpsim.nn.parameter import cut

Array = NDArray[Any]


class VocabParallelCrossEntropy(Layer):
    """Loss = log Σⱼ exp(xⱼ − m) − (x_target − m) for each token, each rank having V/t of its logits x.

    A rank sends three numbers for a token where a gather of the logits would send V/t: its maximum, its
    sum of exponentials, and its logit of the target (0 if another rank has it). The maximum m is taken
    over all ranks before anything else, so that no exponential overflows and a rank of nothing but
    padding meets −inf − m, never −inf − (−inf). Backward, dx = (p − onehot)·dloss needs only what this
    rank kept: its V/t probabilities of each token.

    Parameters
    ----------
    vocab : int
        The true V, without padding.
    group : Group, optional
        The ranks that share the logits.
    fused : bool
        All that is summed over ranks in one all-reduce instead of one each: 2 all-reduces in all,
        where there are 3, or 4 with label smoothing.
    ignore_index : int
        A target of this value has loss 0 and no gradient.
    label_smoothing : float
        α: the target's probability is 1 − α, and each of the V − 1 other words' α/(V − 1).
    z_loss : float
        c: adds c·lz² with lz = log Σⱼ exp(xⱼ), which keeps the logits from drifting.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3 (the output embedding fused with the cross-entropy);
    Szegedy et al. (2016), "Rethinking the Inception architecture", section 7, for label smoothing, here
    in Megatron-LM's form, where α excludes the target; Chowdhery et al. (2022), "PaLM", section 5, for
    the z-loss.
    """

    def __init__(
        self,
        vocab: int,
        group: Group | None = None,
        *,
        fused: bool = False,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"VocabParallelCrossEntropy: label_smoothing {label_smoothing} is no probability to give "
                "away; pick 0 or more, and less than 1"
            )
        if label_smoothing and vocab < 2:
            raise ValueError(
                f"VocabParallelCrossEntropy: label_smoothing {label_smoothing} has no other word to go to in "
                "a vocabulary of 1; pick 0"
            )
        self.group = group or solo()
        self.vocab = vocab
        self.columns = cut(vocab, self.group)
        self.fused = fused
        self.ignore_index = ignore_index
        # With σ = αV/(V − 1) on all V words alike, (1 − σ)·onehot + σ/V has 1 − α at the target.
        self.smoothing = label_smoothing * vocab / (vocab - 1) if label_smoothing else 0.0
        self.z_loss = z_loss

    def forward(self, logits: Array, targets: Array) -> Array:  # type: ignore[override]  # two inputs
        """[b, s, V/t] of this rank, and whole integers [b, s] → [b, s], the same on every rank."""
        self._check(logits, targets)
        self.dtype, logits = logits.dtype, widen(logits)  # narrow logits have float32 losses
        column, mine = own_rows(targets, self.columns)
        maximum = self.group.all_reduce(np.max(logits, axis=-1), "max")
        shifted = logits - maximum[..., np.newaxis]  # −inf in padding
        at_column = np.take_along_axis(shifted, column[..., np.newaxis], axis=-1)[..., 0]
        terms = [np.where(mine, at_column, 0)]
        if self.smoothing:
            terms += [np.sum(shifted[..., : self.columns.real], axis=-1)]
        p = np.exp(shifted, out=shifted)
        total, at_target, *all_logits = self._summed(np.sum(p, axis=-1), *terms)
        p /= total[..., np.newaxis]
        self.save(probabilities=p)
        self.save_statistics(targets=targets)

        log_total = np.log(total)
        loss = log_total - (1 - self.smoothing) * at_target
        if self.smoothing:
            loss -= self.smoothing / self.vocab * all_logits[0]
        if self.z_loss:
            lz = log_total + maximum
            self.save_statistics(lz=lz)
            loss += self.z_loss * lz * lz
        return np.where(targets != self.ignore_index, loss, 0)

    def backward(self, dloss: Array) -> Array:
        """[b, s] → [b, s, V/t]: p·(1 + 2c·lz) − (1 − σ)·onehot − σ/V, times dloss."""
        targets = self.take("targets")
        dlogits = self.take("probabilities")  # nobody needs them any more: written over
        dloss = np.where(targets != self.ignore_index, dloss, 0)
        through_total = dloss * (1 + 2 * self.z_loss * self.take("lz")) if self.z_loss else dloss
        dlogits *= through_total[..., np.newaxis]
        if self.smoothing:
            dlogits[..., : self.columns.real] -= (self.smoothing / self.vocab * dloss)[..., np.newaxis]
        column, mine = own_rows(targets, self.columns)
        column = column[..., np.newaxis]
        onehot = np.where(mine, (1 - self.smoothing) * dloss, 0)[..., np.newaxis]  # at the target's column
        np.put_along_axis(dlogits, column, np.take_along_axis(dlogits, column, axis=-1) - onehot, axis=-1)
        return dlogits.astype(self.dtype, copy=False)

    def _summed(self, *terms: Array) -> list[Array]:
        """Return the sums over ranks."""
        if self.fused:
            return list(self.group.all_reduce(np.stack(terms)))
        return [self.group.all_reduce(term) for term in terms]

    def _check(self, logits: Array, targets: Array) -> None:
        check_tokens(self, targets, self.vocab, self.ignore_index)
        needed = (*targets.shape, self.columns.local)
        if logits.shape != needed:
            raise ValueError(
                f"VocabParallelCrossEntropy: logits have shape {logits.shape}, and a rank's share of a "
                f"vocabulary of {self.vocab} on {self.group.size} ranks is {needed}; pass the local logits, "
                "not gathered ones"
            )


def count_valid(targets: Array, ignore_index: int = -100) -> int:
    """Return how many targets are not ignored."""
    return int(np.count_nonzero(targets != ignore_index))


def mean_over_valid(loss: Array, targets: Array, count: int, ignore_index: int = -100) -> tuple[Any, Array]:
    """Return Σ loss / count, and its gradient by each token's loss.

    Parameters
    ----------
    loss : array
        [b, s], 0 where ignored.
    targets : array
        [b, s].
    count : int
        How many tokens are not ignored in the *whole* batch, all microbatches and data-parallel ranks
        together: their results then add up to the batch's mean. A mean of their own means would weigh
        tokens by how many others were ignored.

    Returns
    -------
    mean : scalar
    dloss : array
        [b, s], 1/count where not ignored.
    """
    if count < 1:
        raise ValueError(
            f"mean_over_valid: a mean over {count} tokens is not defined; leave out batches in which all "
            "targets are ignored"
        )
    dloss = (targets != ignore_index).astype(loss.dtype) / int(count)
    return loss.sum() / int(count), dloss
