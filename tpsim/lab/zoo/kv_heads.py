"""A count of kv heads that forgets their copies."""

from __future__ import annotations

from tpsim.lab.kv_heads import caches, kv_heads_are_counted_once
from tpsim.lab.zoo.bug import Bug
from tpsim.models import ModelConfig
from tpsim.models.kv_cache import kv_heads_here


def every_rank_has_its_own(config: ModelConfig, ranks: int, rank: int) -> range:
    """Number heads as if there were kv_heads_here · t of them."""
    here = kv_heads_here(config, ranks)
    return range(rank * here, (rank + 1) * here)


BUGS = [
    Bug(
        number=23,
        name="kv-copies-counted",
        title="the number of kv heads is taken for kv heads here × ranks",
        goes_wrong="right until there are more ranks than kv heads; then copies count as heads of their own, "
        "and a cache that moves to another number of ranks is written at wrong offsets.",
        seen_in=("sglang#19086",),
        replaces="tpsim.models.kv_cache.kv_heads_at",
        patient=every_rank_has_its_own,
        caught_by=kv_heads_are_counted_once,
        cases=caches,
    ),
]
