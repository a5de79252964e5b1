"""Cases and properties of generating text: a cache changes nothing, and all ranks choose the same word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim import infer, models
from tpsim.comm import Group, run, solo
from tpsim.infer.sampling import Way
from tpsim.lab.cases import Array, Case
from tpsim.lab.strategies import RANKS, draw_common, picker
from tpsim.lab.tolerance import TOLERANCE
from tpsim.lab.violation import Violation

VOCAB = 19


@dataclass(frozen=True, kw_only=True, repr=False)
class DecodeCase(Case):
    """Rows with prompts of some lengths, and then `new` decode steps of all of them.

    `heads` is how many each rank has; there are `kv_heads` in all, or one a rank for more ranks than that.
    """

    learned: bool = False
    heads: int = 1
    kv_heads: int = 1
    lengths: tuple[int, ...] = (1,)
    new: int = 1
    window: int | None = None

    @property
    def config(self) -> models.ModelConfig:
        """The model's dimensions: two blocks, so that what one caches goes through another."""
        heads, longest = self.heads * self.ranks, max(self.lengths) + self.new
        if self.learned:
            return models.gpt("case", 2, 4 * heads, heads, vocab=VOCAB, max_seq=longest)
        return models.llama(
            "case", 2, 8, heads, kv_heads=self.kv_heads, head_size=4, ffn=self.ranks, vocab=VOCAB
        )

    def model(self, group: Group) -> models.LanguageModel:
        """Return this rank's model, with weights large enough that every position matters."""
        rng = np.random.default_rng(self.seed)
        model = models.LanguageModel(self.config, group, rng=rng, dtype=self.dtype)
        for parameter in model.parameters().values():
            if parameter.data.ndim == 2:
                parameter.data *= 12
        return model

    def tokens(self) -> Array:
        """Return whole texts, [rows, longest]; a row's own is as long as its prompt and the new tokens."""
        shape = len(self.lengths), max(self.lengths) + self.new
        return np.random.default_rng(self.seed).integers(VOCAB, size=shape)


@st.composite
def decodes(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> DecodeCase:
    """Models of both families, prompts of different lengths, with and without a window."""
    pick = picker(draw, fixed)
    common = draw_common(pick, ranks)
    t = common["ranks"]
    heads = pick("heads", st.integers(1, 2))
    shared = [g for g in range(1, heads * t + 1) if heads * t % g == 0 and (g % t == 0 or t % g == 0)]
    lengths = pick("lengths", st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple))
    return DecodeCase(
        learned=pick("learned", st.booleans()),
        heads=heads,
        kv_heads=pick("kv_heads", st.sampled_from(shared)),
        lengths=lengths,
        new=pick("new", st.integers(1, 5)),
        window=pick("window", st.none() | st.integers(1, 7)),
        **{**common, "batch": len(lengths), "seq": 1},
    )


def a_cache_changes_nothing(case: DecodeCase) -> None:
    """Each row's logits after each step are those of its text so far, alone, in one pass on one device.

    Without a window that pass needs no cache at all.
    """
    tokens, t = case.tokens(), case.ranks

    def main(comm: Any) -> list[Array]:
        group = case.group(comm)
        model = case.model(group)
        cache = infer.KVCache(model, len(tokens), tokens.shape[1], window=case.window)
        for row, length in enumerate(case.lengths):
            infer.prefill(model, tokens[row : row + 1, :length], cache, slice(row, row + 1))
        steps = []
        for step in range(case.new):
            new = np.stack([tokens[row, n + step : n + step + 1] for row, n in enumerate(case.lengths)])
            steps.append(group.all_gather(infer.next_logits(model, new, cache), axis=-1)[:, :VOCAB])
        return steps

    whole = case.model(solo())
    ran = run(main, t)
    for step in range(case.new):
        for row, length in enumerate(case.lengths):
            want = _in_one_pass(whole, tokens[row : row + 1, : length + step + 1], case.window)
            scale = TOLERANCE[case.dtype] * max(1.0, float(np.max(np.abs(want))))
            for rank, steps in enumerate(ran):
                error = float(np.max(np.abs(steps[step][row] - want)))
                if not error <= scale:
                    raise Violation(
                        f"t = {t}: after {length + step + 1} tokens rank {rank}'s logits of row {row} differ "
                        f"by {error:.3g} from those of its text in one pass; {case}"
                    )


def _in_one_pass(model: models.LanguageModel, text: Array, window: int | None) -> Array:
    if window is None:
        last: Array = model.logits(text)[0, -1]
        return last
    cache = infer.KVCache(model, 1, text.shape[1], window=window)
    logits: Array = infer.next_logits(model, text, cache)[0]
    return logits


# --- choosing words -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class SampleCase(Case):
    """Logits of `batch` rows, and how words are chosen."""

    vocab: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    way: Way = "sharded"

    def choose(self, group: Group) -> Array:
        """Return the words that a rank chooses."""
        rng = np.random.default_rng(self.seed)
        logits = 2 * rng.standard_normal((self.batch, self.vocab))
        width = -(-self.vocab // group.size)
        padded = np.full((self.batch, width * group.size), -np.inf)
        padded[:, : self.vocab] = logits
        own = padded[:, group.rank * width : (group.rank + 1) * width].astype(self.dtype)
        sampling = infer.Sampling(self.temperature, self.top_k, self.top_p, self.seed)
        sampler = infer.Sampler(self.vocab, group, sampling, self.way)
        return sampler.choose(own, [infer.Place(row, 7) for row in range(self.batch)])


@st.composite
def samples(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> SampleCase:
    """Any vocabulary, all ways to choose."""
    pick = picker(draw, fixed)
    return SampleCase(
        vocab=pick("vocab", st.integers(1, 40)),
        temperature=pick("temperature", st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        top_k=pick("top_k", st.none() | st.integers(1, 9)),
        top_p=pick("top_p", st.none() | st.sampled_from([0.3, 0.9])),
        way=pick("way", st.sampled_from(["sharded", "gathered"])),
        **draw_common(pick, ranks),
    )


def ranks_choose_alike(case: SampleCase) -> None:
    """Every rank chooses what one device chooses."""
    want = case.choose(solo()).tolist()
    for rank, words in enumerate(run(lambda comm: case.choose(case.group(comm)).tolist(), case.ranks)):
        if words != want:
            raise Violation(
                f"t = {case.ranks}: rank {rank} chooses the words {words}, and one device {want}; {case}"
            )
