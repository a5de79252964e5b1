"""Choosing the next word from logits that are cut along the vocabulary, with or without gathering them.

Gathered, every rank has all V logits and sorts them. Sharded, each rank sends what its own words can
contribute, and all ranks conclude the same::

    greedy          its best word, and how good that is                          16 bytes a row
    temperature     the same, of logits with noise                               16
    top-k           its k best                                                   16 k
    top-p           its m best, and its share of the softmax's sum, where m grows until the m best
                    of all make up p                                             16 m + 16, mostly once

Both ways choose the same word, and so does any number of ranks: where two are as good, the one with the lower
number.

References
----------
Holtzman et al. (2020), "The curious case of neural text degeneration", section 3.1 (nucleus, top-p) and 3.2
(top-k, temperature); Fan et al. (2018), "Hierarchical neural story generation", section 5.4 (top-k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.dry.recording import kernel
from tpsim.infer.noise import gumbel
from tpsim.nn.parameter import cut
from tpsim.trace import scope

Array = NDArray[Any]
Way: TypeAlias = Literal["sharded", "gathered"]
_NUCLEUS = 32  # candidates of each rank that top-p begins with


@dataclass(frozen=True)
class Sampling:
    """How the next word is chosen.

    Parameters
    ----------
    temperature : float
        What logits are divided by; 0 takes the best word.
    top_k : int, optional
        Only the k best words can be chosen.
    top_p : float, optional
        Only the fewest best words that together have this probability can, after top-k if there is one.
    seed : int
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise ValueError(f"Sampling: temperature {self.temperature}; pick 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sampling: top_k {self.top_k} leaves no word; pick 1 or more, or None")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"Sampling: top_p {self.top_p} is no probability; pick one above 0, up to 1")


class Place(NamedTuple):
    """Of which sequence the next word is chosen, and for which position: what its noise depends on."""

    stream: int
    position: int


class Sampler:
    """Chooses the next word of each row, the same on every rank.

    Parameters
    ----------
    vocab : int
        V, without padding.
    group : Group
        The ranks that share the logits.
    sampling : Sampling
    way : {"sharded", "gathered"}
    """

    def __init__(self, vocab: int, group: Group, sampling: Sampling, way: Way = "sharded") -> None:
        if way not in ("sharded", "gathered"):
            raise ValueError(f"Sampler: way {way!r} is not known; pick sharded or gathered")
        self.group, self.sampling, self.way = group, sampling, way
        self.first = cut(vocab, group).start

    def choose(self, logits: Array, places: Sequence[Place]) -> Array:
        """Return words [rows] from this rank's logits [rows, V/t], −inf in padding.

        Parameters
        ----------
        logits : array
        places : sequence of Place
            One a row.
        """
        with scope("sampling", "forward"):
            if self.sampling.temperature > 0:
                logits = logits.astype(np.float64) / self.sampling.temperature
            if self.way == "gathered":
                whole = self.group.all_gather(logits, axis=-1)
                return self._of_candidates(self._sorted(whole, first=0), places, total=None)
            if self.sampling.temperature == 0:
                return self._best(logits)
            if self.sampling.top_k is None and self.sampling.top_p is None:
                return self._best(logits + self._noise(self.first + np.arange(logits.shape[1]), places))
            return self._of_some(logits, places)

    def _best(self, scores: Array) -> Array:
        """Return the word with the largest score of all ranks'."""
        pairs = self.group.all_gather(best_word(scores, self.first), axis=1)  # [rows, t, 2]
        winner = np.argmax(pairs[..., 0], axis=1)  # the first, so of the lowest words
        words: Array = np.take_along_axis(pairs[..., 1], winner[:, np.newaxis], axis=1)
        return words[:, 0].astype(np.int64)

    def _of_some(self, logits: Array, places: Sequence[Place]) -> Array:
        """Merge the ranks' best words: among the m best of each are the m best of all."""
        top_k, top_p = self.sampling.top_k, self.sampling.top_p
        width = logits.shape[1]
        total = self._total(logits) if top_k is None else None
        count = top_k or _NUCLEUS
        own = self._sorted(logits, self.first)
        while True:
            sent = own[:, : min(count, width)]
            merged = _in_order(self.group.all_gather(sent, axis=1))
            known = merged if count >= width else merged[:, :count]
            if top_k is not None or count >= width:
                break
            mass = np.exp(known[..., 0] - total).sum(axis=1)  # the same on every rank: all leave together
            if np.all(mass >= top_p):
                break
            count *= 4
        return self._of_candidates(known, places, total)

    def _of_candidates(self, best: Array, places: Sequence[Place], total: Array | None) -> Array:
        """Choose from the best words, [rows, m, (logit, word)] in order.

        `total` is log Σ exp over all words where some of these may be left out; with top-k it is over the k.
        """
        sampling = self.sampling
        best = best[:, : sampling.top_k]
        logits, words = best[..., 0], best[..., 1].astype(np.int64)
        if sampling.temperature == 0:
            return words[:, 0]
        if sampling.top_p is not None:
            total = _log_sum(logits) if total is None else total
            p = np.exp(logits - total)
            before = np.cumsum(p, axis=1) - p
            logits = np.where(before < sampling.top_p, logits, -np.inf)
        winner = np.argmax(logits + self._noise(words, places), axis=1)
        chosen: Array = np.take_along_axis(words, winner[:, np.newaxis], axis=1)
        return chosen[:, 0]

    def _noise(self, words: Array, places: Sequence[Place]) -> Array:
        """[rows, words], of the same words in every row or of each row's own."""
        of_row = np.broadcast_to(words, (len(places), words.shape[-1]))
        pairs = zip(places, of_row, strict=True)
        return np.stack([gumbel(self.sampling.seed, *place, row) for place, row in pairs])

    def _sorted(self, logits: Array, first: int) -> Array:
        """Return words from best to worst, [rows, words, (logit, word)]."""
        words = np.broadcast_to(first + np.arange(logits.shape[1], dtype=np.float64), logits.shape)
        return _in_order(np.stack([logits.astype(np.float64), words], axis=-1))

    def _total(self, logits: Array) -> Array:
        """Return log Σ exp over all ranks' words, [rows, 1]."""
        own = _log_sum(logits)
        return _log_sum(self.group.all_gather(own, axis=1))


@kernel
def best_word(scores: Array, first: int) -> Array:
    """Return the largest score of each row and its word, [rows, 1, (score, word)], words from `first` on."""
    word = np.argmax(scores, axis=-1) + first
    pair: Array = np.stack([np.max(scores, axis=-1).astype(np.float64), word.astype(np.float64)], axis=-1)
    return pair[:, np.newaxis]


def _in_order(candidates: Array) -> Array:
    """Sort [rows, m, (logit, word)] by falling logit, then by word."""
    order = np.lexsort((candidates[..., 1], -candidates[..., 0]), axis=-1)
    ordered: Array = np.take_along_axis(candidates, order[..., np.newaxis], axis=1)
    return ordered


def _log_sum(logits: Array) -> Array:
    """Return log Σ exp of each row, [rows, 1]; −inf for a rank that has no word."""
    largest = np.max(logits, axis=-1, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        total: Array = largest + np.log(np.sum(np.exp(logits - largest), axis=-1, keepdims=True))
    return total
