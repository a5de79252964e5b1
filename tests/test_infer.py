"""Generating from a cache: the same as computing everything again, however it is cut, batched or stored."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim import Group, models, run
from tpsim import functional as F
from tpsim.comm.dry import dry_group
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.infer import KVCache, next_logits, prefill
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.kv_cache import kv_cache_bytes
from tpsim.trace import Trace

Array = NDArray[Any]
VOCAB = 19


@st.composite
def configs(draw: st.DrawFn, ranks: int = 1) -> ModelConfig:
    """Draw a model of GPT's or Llama's kind whose heads `ranks` can share, few or many kv heads."""
    layers, size = draw(st.integers(1, 3)), 2 * draw(st.integers(1, 3))
    kv_heads = draw(st.sampled_from([n for n in (1, 2, 4) if n % ranks == 0 or ranks % n == 0]))
    heads = kv_heads * draw(st.integers(1, 3)) * max(1, ranks // kv_heads)
    if draw(st.booleans()):
        return models.gpt("drawn", layers, heads * size, heads, vocab=VOCAB, max_seq=24)
    return models.llama(
        "drawn",
        layers,
        draw(st.integers(2, 9)) * 2,
        heads,
        kv_heads=kv_heads,
        head_size=size,
        ffn=4 * ranks,
        vocab=VOCAB,
        max_seq=24,
        qk_norm=draw(st.booleans()),
    )


def built(config: ModelConfig, group: Group | None = None, seed: int = 3, **options: Any) -> LanguageModel:
    """Return a model whose weights are large enough that every position matters."""
    model = LanguageModel(config, group, rng=np.random.default_rng(seed), dtype=np.float64, **options)
    for parameter in model.parameters().values():
        if parameter.data.ndim == 2:
            parameter.data *= 12
    return model


def drawn_tokens(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(VOCAB, size=shape)


def close(a: Array, b: Array, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b[np.isfinite(b)]).max()))


def stepwise(model: LanguageModel, tokens: Array, cache: KVCache, cuts: Sequence[int]) -> Array:
    """Return the logits at the end of every stretch of the tokens, [b, stretches, V/t]."""
    ends = [0, *cuts, tokens.shape[1]]
    parts = [tokens[:, a:b] for a, b in pairwise(ends) if b > a]
    return np.stack([next_logits(model, part, cache) for part in parts], axis=1)


@settings(max_examples=40)
@given(st.data(), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_cached_decode_equals_the_full_forward_at_every_position(data: Any, t: int, seed: int) -> None:
    config = data.draw(configs(ranks=t))
    prompt = data.draw(st.integers(1, 6))
    tokens = drawn_tokens(seed, data.draw(st.integers(1, 3)), prompt + 5)

    def main(comm: Any) -> None:
        model = built(config, Group(comm))
        whole = model.logits(tokens)
        cache = KVCache(model, len(tokens), tokens.shape[1])
        close(prefill(model, tokens[:, :prompt], cache), whole[:, prompt - 1])
        for place in range(prompt, tokens.shape[1]):
            close(next_logits(model, tokens[:, place : place + 1], cache), whole[:, place])

    run(main, t)


@settings(max_examples=30)
@given(configs(), st.integers(0, 99), st.sets(st.integers(1, 11)), st.integers(1, 12))
def test_prefill_in_chunks_equals_prefill_at_once(
    config: ModelConfig, seed: int, cuts: set[int], chunk: int
) -> None:
    model, tokens = built(config), drawn_tokens(seed, 2, 12)
    whole = model.logits(tokens)
    ends = [*sorted(cuts), 12]
    close(stepwise(model, tokens, KVCache(model, 2, 12), ends[:-1]), whole[:, [end - 1 for end in ends]])
    close(prefill(model, tokens, KVCache(model, 2, 12), chunk=chunk), whole[:, -1])


@settings(max_examples=30)
@given(configs(), st.integers(0, 99), st.lists(st.integers(1, 8), min_size=2, max_size=4))
def test_a_batch_of_different_lengths_equals_one_at_a_time(
    config: ModelConfig, seed: int, lengths: list[int]
) -> None:
    model, rows = built(config), len(lengths)
    tokens = drawn_tokens(seed, rows, 12)
    cache = KVCache(model, rows, 12)
    for row, length in enumerate(lengths):
        prefill(model, tokens[row : row + 1, :length], cache, slice(row, row + 1))
    for count in (1, 2, 1):  # decode steps, and a chunk
        starts = list(cache.lengths)
        new = np.stack([tokens[row, s : s + count] for row, s in enumerate(starts)])
        got = next_logits(model, new, cache)
        for row, start in enumerate(starts):
            close(got[row : row + 1], model.logits(tokens[row : row + 1, : start + count])[:, -1])


def windowed_logits(model: LanguageModel, tokens: Array, window: int) -> Array:
    """Compute all positions' logits, each query over its own keys, one query and head at a time."""
    x = model.embedding.forward(tokens)
    if model.positions:
        x = model.positions.forward(x)
    for block in model.blocks:
        layer = block.attention
        qkv = layer.qkv.forward(block.norm1.forward(x))
        a, g, d = layer.heads, layer.kv_heads, layer.head_size
        q, k, v = np.split(qkv.reshape(*tokens.shape, a + 2 * g, d), [a, a + g], axis=2)
        if layer.q_norm and layer.k_norm:
            q, k = layer.q_norm.forward(q), layer.k_norm.forward(k)
        if layer.rotary_base is not None:
            cos, sin = F.rotary_tables(tokens.shape[1], d, layer.rotary_base, x, layer.rotary_scaling)
            q, k = (F.rotary(y.swapaxes(1, 2), cos, sin).swapaxes(1, 2) for y in (q, k))
        out = np.zeros_like(q)
        for b, s, h in np.ndindex(q.shape[:3]):
            seen = slice(max(0, s - window + 1), s + 1)
            weights = np.exp(k[b, seen, h * g // a] @ q[b, s, h] / math.sqrt(d))
            out[b, s, h] = weights @ v[b, seen, h * g // a] / weights.sum()
        x = x + layer.out.forward(out.reshape(*tokens.shape, a * d))
        x = x + block.mlp.forward(block.norm2.forward(x))
    return model.head.forward(model.norm.forward(x))


@settings(max_examples=30)
@given(configs(), st.integers(0, 99), st.integers(1, 14), st.sets(st.integers(1, 11)))
def test_a_sliding_window_equals_a_full_forward_that_sees_only_the_window(
    config: ModelConfig, seed: int, window: int, cuts: set[int]
) -> None:
    model, tokens = built(config), drawn_tokens(seed, 2, 12)
    whole = windowed_logits(model, tokens, window)
    cache = KVCache(model, 2, 12, window=window)
    assert cache.keys[0].shape[2] == min(window, 12)
    ends = [*sorted(cuts), 12]
    close(stepwise(model, tokens, cache, ends[:-1]), whole[:, [end - 1 for end in ends]])
    cache = KVCache(model, 2, 12, window=window)  # rows of different lengths
    for row, length in enumerate((3, 7)):
        prefill(model, tokens[row : row + 1, :length], cache, slice(row, row + 1), chunk=2)
    for place in range(4):
        new = np.stack([tokens[0, 3 + place : 4 + place], tokens[1, 7 + place : 8 + place]])
        got = next_logits(model, new, cache)
        close(got, np.stack([whole[0, 3 + place], whole[1, 7 + place]]))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2), ("bfloat16", 1e-1)])
@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-llama"])
def test_a_narrow_cache_costs_its_rounding_and_no_more(name: str, dtype: str, tolerance: float) -> None:
    model = built(models.get(name))
    tokens = np.random.default_rng(1).integers(256, size=(2, 9))
    cache = KVCache(model, 2, 9, dtype=dtype)
    got = stepwise(model, tokens, cache, range(3, 9))
    assert got.dtype == np.float64
    assert cache.nbytes == kv_cache_bytes(model.config, 1, 2, 9, np.dtype(dtype).itemsize)
    close(got, model.logits(tokens)[:, 2:], tolerance)


@pytest.mark.parametrize("window", [8, 5, 1])  # the first sees all
def test_a_moved_and_a_cleared_row_go_on_as_their_own(window: int) -> None:
    model, tokens = built(models.get("tiny-llama")), drawn_tokens(5, 3, 8)
    cache = KVCache(model, 3, 8, window=window)
    for row in range(3):
        prefill(model, tokens[row : row + 1, : 4 + row], cache, slice(row, row + 1))
    cache.move(2, 0)  # row 0 has ended
    assert cache.lengths == [6, 5, 0]
    new = np.stack([tokens[2, 6:7], tokens[1, 5:6]])
    got = next_logits(model, new, cache, slice(2))
    whole = windowed_logits(model, tokens, window)
    close(got, np.stack([whole[2, 6], whole[1, 5]]))


def test_nothing_is_kept_for_backward() -> None:
    model = built(models.get("tiny-gpt"), recompute="full")
    cache = KVCache(model, 1, 8)
    with Trace() as trace:
        prefill(model, drawn_tokens(0, 1, 5), cache, chunk=2)
    assert not trace.saved


@pytest.mark.parametrize("t", [1, 2, 4, 8])
def test_each_rank_keeps_its_own_heads(t: int) -> None:
    config = models.get("tiny-llama")  # of 4 kv heads

    def main(comm: Any) -> list[int]:
        cache = KVCache(LanguageModel(config, Group(comm), dtype="bfloat16"), 3, 50)
        return [cache.nbytes, *cache.keys[0].shape]

    for nbytes, *shape in run(main, t):
        assert shape == [3, max(1, 4 // t), 50, 16]
        assert nbytes == kv_cache_bytes(config, t, 3, 50)


@pytest.mark.parametrize("t", [1, 2, 8])
@pytest.mark.parametrize(("window", "uneven"), [(None, False), (None, True), (4, False), (4, True)])
def test_a_dry_step_does_what_a_real_one_does(t: int, window: int | None, uneven: bool) -> None:
    config = models.get("tiny-llama")
    tokens = np.random.default_rng(0).integers(256, size=(2, 7))

    def step(model: LanguageModel, make: Any) -> Trace:
        cache = KVCache(model, 2, 9, window=window)
        prefill(model, make(tokens), cache, chunk=3)
        if uneven:
            cache.lengths[0] = 5
        with Trace(kernels=True) as trace:
            next_logits(model, make(tokens[:, :1]), cache)
        return trace

    with shapes_only():
        dry = LanguageModel(config, dry_group(t))
    shapes = step(dry, lambda x: ShapeArray(x.shape, x.dtype))
    real = run(lambda comm: step(LanguageModel(config, Group(comm)), lambda x: x), t)[0]
    assert [(e.operation, e.shape, e.layer) for e in shapes.collectives] == [
        (e.operation, e.shape, e.layer) for e in real.collectives
    ]
    marked = {event.name for event in real.kernels}
    assert [(e.name, e.inputs, e.outputs) for e in shapes.kernels if e.name in marked] == [
        (e.name, e.inputs, e.outputs) for e in real.kernels
    ]
    cores = [event for event in shapes.kernels if event.name == "attention_probabilities"]
    assert {event.inputs[1][2] for event in cores} == {window or 8}  # 7 of the prompt and the new one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: KVCache(m, 0, 4), "KVCache: 0 rows of 4"),
        (lambda m: KVCache(m, 1, 4, window=0), "window 0"),
        (lambda m: KVCache(m, 1, 129), "has learned 128 positions"),
        (lambda m: KVCache(m, 1, 4).step(5), "5 more tokens after"),
        (lambda m: KVCache(m, 1, 4).step(0), "0 more tokens after"),
        (lambda m: prefill(m, np.zeros((1, 0), int), KVCache(m, 1, 4)), "a prompt of 0 tokens"),
        (lambda m: prefill(m, np.zeros((1, 2), int), KVCache(m, 1, 4), chunk=0), "in chunks of 0"),
    ],
)
def test_what_a_cache_cannot_hold_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(built(models.get("tiny-gpt")))


def test_sequence_parallel_models_are_refused() -> None:
    def main(comm: Any) -> None:
        model = LanguageModel(models.get("tiny-gpt"), Group(comm), sequence_parallel=True)
        with pytest.raises(ValueError, match="can't be cut; build the model without it"):
            KVCache(model, 1, 8)

    run(main, 2)
