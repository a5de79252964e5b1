"""The cache of keys and values, counted: what attention layers have on each rank."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tpsim import Group, Trace, models, run
from tpsim.lab.cases import AttentionCase
from tpsim.lab.kv_heads import caches, kv_heads_are_counted_once
from tpsim.lab.sampling import HeadCase, heads, pads_never_win
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.kv_cache import kv_cache_bytes, kv_cache_bytes_in_all, kv_heads_at, kv_heads_here

SMALL = models.llama("small", 3, 32, 8, kv_heads=2, ffn=24, vocab=21, max_seq=8)
ONE_HEAD = replace(SMALL, kv_heads=1)
MANY = replace(SMALL, kv_heads=8)


@settings(max_examples=60)
@given(caches())
def test_counted_heads_are_those_that_layers_have(case: AttentionCase) -> None:
    kv_heads_are_counted_once(case)


@settings(max_examples=60)
@given(heads())
def test_pads_never_win(case: HeadCase) -> None:
    pads_never_win(case)


@pytest.mark.parametrize("config", [SMALL, ONE_HEAD, MANY], ids=lambda config: f"g = {config.kv_heads}")
@pytest.mark.parametrize("t", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_are_those_of_the_keys_and_values_of_all_layers(
    config: ModelConfig, t: int, dtype: str
) -> None:
    tokens = np.random.default_rng(0).integers(21, size=(2, 5))

    def main(comm: Any) -> tuple[int, int]:
        model = LanguageModel(config, Group(comm), dtype=dtype)
        with Trace():
            model.logits(tokens)
        kept = [block.attention.take(name) for block in model.blocks for name in ("k", "v")]
        assert all(array.shape == (2, kept[0].shape[1], 5, config.head_size) for array in kept)
        return kept[0].shape[1], sum(array.nbytes for array in kept)

    have = run(main, t)
    itemsize = 2 if dtype == "bfloat16" else 4
    assert have == [(kv_heads_here(config, t), kv_cache_bytes(config, t, 2, 5, itemsize))] * t
    assert sum(nbytes for _, nbytes in have) == kv_cache_bytes_in_all(config, t, 2, 5, itemsize)


@pytest.mark.parametrize(
    ("name", "t", "heads", "bytes_a_token"),
    [
        # layers · 2 · kv heads here · head size · 2 bytes, by hand.
        ("gpt2", 1, 12, 12 * 2 * 768 * 2),
        ("llama3-8b", 8, 1, 32 * 2 * 128 * 2),
        ("llama3-405b", 8, 1, 126 * 2 * 128 * 2),
        ("llama3-405b", 16, 1, 126 * 2 * 128 * 2),  # more ranks than heads: no less for each
        ("llama2-7b", 4, 8, 32 * 2 * 1024 * 2),
    ],
)
def test_published_models_keep_what_their_numbers_say(
    name: str, t: int, heads: int, bytes_a_token: int
) -> None:
    config = models.get(name)
    assert kv_heads_here(config, t) == heads
    assert kv_cache_bytes(config, t, 1, 1) == bytes_a_token
    assert kv_cache_bytes(config, t, 3, 7) == 21 * bytes_a_token
    assert kv_cache_bytes(config, t, 1, 1, itemsize=4) == 2 * bytes_a_token


@pytest.mark.parametrize("t", [1, 2, 4, 8, 16, 64])
def test_copies_are_what_all_ranks_keep_above_one_device(t: int) -> None:
    config = models.get("llama3-70b")  # g = 8
    alone = kv_cache_bytes(config, 1, 1, 100)
    assert kv_cache_bytes_in_all(config, t, 1, 100) == alone * max(1, t // 8)
    assert {head for rank in range(t) for head in kv_heads_at(config, t, rank)} == set(range(8))


@pytest.mark.parametrize("t", [0, 3, 12])
def test_ranks_that_cannot_share_kv_heads_are_refused(t: int) -> None:
    with pytest.raises(ValueError, match=f"8 kv heads of llama3-8b can't be shared by {t} ranks; pick ranks"):
        kv_heads_here(models.get("llama3-8b"), t)


def test_a_rank_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no rank 2 of 2; pick 0 to 1"):
        kv_heads_at(SMALL, 2, 2)
