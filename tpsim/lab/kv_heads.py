"""Property of what is counted of a cache of keys and values: it is what attention layers have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from tpsim.comm import run
from tpsim.lab.cases import Array, AttentionCase
from tpsim.lab.running import part
from tpsim.lab.strategies import RANKS, attentions
from tpsim.lab.tolerance import measure
from tpsim.lab.violation import Violation
from tpsim.models import ModelConfig, kv_cache


def caches(ranks: Sequence[int] = RANKS, **fixed: Any) -> SearchStrategy[AttentionCase]:
    """Attentions, also with fewer kv heads than ranks; whole sequences, and no norm that could blur keys."""
    return attentions(ranks=ranks, **{"qk_norm": False, "sequence_parallel": False, **fixed})


def kv_heads_are_counted_once(case: AttentionCase) -> None:
    """All ranks together have g different heads, and each as many copies; a rank's are those of its keys.

    The bytes that are counted for a rank are those of its keys and values.
    """
    config, t = model_of(case), case.ranks
    heads = [kv_cache.kv_heads_at(config, t, rank) for rank in range(t)]
    held = Counter(head for own in heads for head in own)
    if set(held) != set(range(case.kv_heads)) or len(set(held.values())) != 1:
        raise Violation(
            f"t = {t}: the ranks are said to have {len(held)} different kv heads, and the model has "
            f"{case.kv_heads}; {case}"
        )
    (whole, _), *_ = _keys(case, 1)
    for rank, (keys, nbytes) in enumerate(_keys(case, t)):
        wanted = whole[:, list(heads[rank])].astype(np.float64)
        error = measure(f"rank {rank}'s keys", keys, wanted, case.dtype, lambda: _terms(case))
        if not error.ok:
            raise Violation(f"t = {t}: {error}, kv heads {list(heads[rank])} of one device; {case}")
        counted = kv_cache.kv_cache_bytes(config, t, case.batch, case.seq, case.itemsize)
        if counted != nbytes:
            raise Violation(f"t = {t}: rank {rank} keeps {nbytes} bytes, and {counted} are counted; {case}")


def _keys(case: AttentionCase, ranks: int) -> list[tuple[Array, int]]:
    """Return every rank's keys, and the bytes of its keys and values."""
    parameters, x, _ = case.draw()

    def main(comm: Any) -> tuple[Array, int]:
        layer = case.build(case.group(comm))
        layer.load(parameters)
        layer.forward(part(x, "whole", comm))
        keys, values = layer.take("k"), layer.take("v")
        return keys, keys.nbytes + values.nbytes

    return run(main, ranks)


def _terms(case: AttentionCase) -> float:
    """Return the largest that the terms of a key add up to, in magnitude."""
    parameters, x, _ = case.draw()
    weight = np.abs(parameters["qkv.weight"])
    return float(np.max(np.abs(x) @ weight) + max(np.max(np.abs(one)) for one in parameters.values()))


def model_of(case: AttentionCase) -> ModelConfig:
    """Return a model of one layer with the case's attention."""
    return ModelConfig(
        name="case",
        layers=1,
        hidden=case.hidden,
        heads=case.heads,
        kv_heads=case.kv_heads,
        head_size=case.head_size,
        ffn=case.hidden,
        vocab=1,
        max_seq=case.seq,
        norm="rms",
        activation="swiglu",
        bias=case.bias,
        positions="learned" if case.rotary_base is None else "rotary",
        tied=False,
        rotary_base=case.rotary_base,
    )
