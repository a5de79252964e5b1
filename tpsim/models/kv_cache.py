"""How large a cache of keys and values is on each rank, and which of the model's kv heads it holds.

With at least as many kv heads as ranks each head is kept once. With fewer, t/g neighbouring ranks keep the
same head, and what is kept in all no longer falls as 1/t. With g = 2 on 4 ranks::

    rank:       0        1        2        3
    kv heads:  [0]      [0]      [1]      [1]       1 here, 4 kept, and still only 2 different ones

So g can't be told from what one rank has: `kv_heads_here · t` is g only where no head has copies.

References
----------
Shazeer (2019), "Fast transformer decoding: one write-head is all you need", section 2.4, for the cache;
Pope et al. (2023), "Efficiently scaling transformer inference", section 3.3, for its copies.
"""

from __future__ import annotations

from tpsim.models.config import ModelConfig


def kv_heads_here(config: ModelConfig, ranks: int) -> int:
    """Return how many kv heads each of t ranks keeps: g/t, or one where there are fewer heads than ranks.

    Raises
    ------
    ValueError
        If neither of g and t divides the other.

    Examples
    --------
    >>> from tpsim import models
    >>> [kv_heads_here(models.get("llama3-70b"), ranks) for ranks in (1, 4, 8, 16)]
    [8, 2, 1, 1]
    """
    g = config.kv_heads
    if ranks < 1 or (g % ranks and ranks % g):
        raise ValueError(
            f"kv_heads_here: {g} kv heads of {config.name} can't be shared by {ranks} ranks; pick ranks that "
            f"divide {g}, or a multiple of it"
        )
    return max(1, g // ranks)


def kv_heads_at(config: ModelConfig, ranks: int, rank: int) -> range:
    """Return which of the model's kv heads a rank keeps, by their numbers on one device.

    What a cache that moves to another number of ranks goes by.

    Examples
    --------
    >>> from tpsim import models
    >>> [list(kv_heads_at(models.get("tiny-llama"), 8, rank)) for rank in range(8)]
    [[0], [0], [1], [1], [2], [2], [3], [3]]
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"kv_heads_at: there is no rank {rank} of {ranks}; pick 0 to {ranks - 1}")
    here = kv_heads_here(config, ranks)
    first = rank * config.kv_heads // ranks
    return range(first, first + here)


def kv_cache_bytes(config: ModelConfig, ranks: int, batch: int, length: int, itemsize: int = 2) -> int:
    """Return the bytes on each rank: layers · 2 · kv heads here · head size · itemsize for a token.

    Parameters
    ----------
    config : ModelConfig
    ranks : int
        t, which cut the heads.
    batch, length : int
        Sequences, and the tokens of each.
    itemsize : int
        Bytes of a number; 2 in bfloat16 and float16.

    Examples
    --------
    Llama 3 70B keeps 320 KiB for a token; of 8192 tokens on 8 ranks, each 320 MiB:

    >>> from tpsim import models
    >>> llama = models.get("llama3-70b")
    >>> kv_cache_bytes(llama, 1, 1, 1) // 2**10, kv_cache_bytes(llama, 8, 1, 8192) // 2**20
    (320, 320)
    """
    token = config.layers * 2 * kv_heads_here(config, ranks) * config.head_size * itemsize
    return batch * length * token


def kv_cache_bytes_in_all(config: ModelConfig, ranks: int, batch: int, length: int, itemsize: int = 2) -> int:
    """Return the bytes on all ranks together, copies included: t/g times one device's if t is above g.

    Examples
    --------
    >>> from tpsim import models
    >>> llama = models.get("llama3-70b")
    >>> alone = kv_cache_bytes(llama, 1, 1, 8192)
    >>> [kv_cache_bytes_in_all(llama, ranks, 1, 8192) / alone for ranks in (1, 8, 16, 64)]
    [1.0, 1.0, 2.0, 8.0]
    """
    return ranks * kv_cache_bytes(config, ranks, batch, length, itemsize)
