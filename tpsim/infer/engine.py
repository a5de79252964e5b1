"""Running a scheduler's steps on a model: from requests to tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tpsim.infer.cache import KVCache
from tpsim.infer.decode import next_logits
from tpsim.infer.sampling import Place, Sampler
from tpsim.infer.scheduler import Request, Running, Scheduler, Work
from tpsim.models import LanguageModel
from tpsim.nn.recompute import forgetting


@dataclass(frozen=True)
class Emitted:
    """A new token of a request, and whether it is the last."""

    request: Request
    token: int
    last: bool


class Engine:
    """A model, its cache and its scheduler; every rank of the model's group has one.

    Parameters
    ----------
    model : LanguageModel
    sampler : Sampler
    cache : KVCache
    chunk : int, optional
        As for `Scheduler`.
    """

    def __init__(
        self, model: LanguageModel, sampler: Sampler, cache: KVCache, chunk: int | None = None
    ) -> None:
        self.model, self.sampler, self.cache = model, sampler, cache
        self.scheduler = Scheduler(cache.batch, cache.length, chunk)

    def run(self) -> Iterator[Emitted]:
        """Take steps until nothing is left to do, yielding tokens as they come."""
        while not self.scheduler.idle:
            yield from self.step()

    def step(self) -> list[Emitted]:
        """Take one step, and return its tokens."""
        work = self.scheduler.plan()
        chosen = [*self._decode(work), *self._prefill(work)]
        for one, token in chosen:
            one.tokens.append(token)
        emitted = [Emitted(one.request, token, one.ended) for one, token in chosen]
        for source, target in self.scheduler.leave():
            self.cache.move(source, target)
        for row in range(len(self.scheduler.running), self.cache.batch):
            self.cache.clear(row)
        return emitted

    def _decode(self, work: Work) -> list[tuple[Running, int]]:
        if not work.decode:
            return []
        last = np.array([[one.tokens[-1]] for one in work.decode])
        logits = next_logits(self.model, last, self.cache, slice(len(work.decode)))
        words = self.sampler.choose(logits, [_place(one) for one in work.decode])
        return [(one, int(word)) for one, word in zip(work.decode, words, strict=True)]

    def _prefill(self, work: Work) -> list[tuple[Running, int]]:
        one = work.prefill
        if one is None:
            return []
        row = slice(len(work.decode), len(work.decode) + 1)
        tokens = np.array([one.request.prompt[one.filled : one.filled + work.count]])
        one.filled += work.count
        if one.prefilling:
            with forgetting():
                self.model.states(tokens, self.cache.step(work.count, row))
            return []
        logits = next_logits(self.model, tokens, self.cache, row)
        return [(one, int(self.sampler.choose(logits, [_place(one)])[0]))]


def _place(one: Running) -> Place:
    return Place(one.request.number, one.position)
