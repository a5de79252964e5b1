"""How long fused attention takes: tiles of queries shared out over processors, and the bytes of a KV cache.

A training kernel (flash attention, cuDNN) gives each processor one tile of queries of one head at a time,
and walks it along the keys that its mask leaves. What it costs is those tiles, how evenly they are shared
out, and a launch. A decode step has one query a sequence: it reads the cache once, and that is its cost.

References
----------
Dao (2023), "FlashAttention-2", arXiv:2307.08691, section 3 (tiles, backward, work partitioning). Shah et al.
(2024), "FlashAttention-3", arXiv:2407.08608. Dao et al. (2023), "Flash-Decoding for long-context inference".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import ml_dtypes  # noqa: F401 - from here on NumPy knows bfloat16 and the float8 types by name
import numpy as np

from tpsim.cost.work import Attention


@dataclass(frozen=True)
class TiledKernel:
    """One backend's kernel for one direction.

    Attributes
    ----------
    launch : float
        Seconds that it takes with hardly any work: launch, fill, drain.
    rate : float
        FLOPs a second of one processor inside the two (five) products, two-byte operands, boost clock.
    softmax : float
        What the exponentials of one score cost, as head elements whose products would take as long.
    prologue : float
        Seconds a tile takes beside its walk: loading queries, writing the result.
    tail : float
        Share of the longest tile for which processors stand idle at the end.
    passes : float
        Arrays of [batch, heads, seq, head size] read or written while no tile runs: before and after,
        as backward does for rowsum(dO · O) and for dQ, which it sums in float32.
    head_multiple : int
        Head sizes are padded to it.
    """

    launch: float
    rate: float
    softmax: float
    prologue: float
    tail: float
    passes: float
    head_multiple: int


@dataclass(frozen=True)
class Decode:
    """A few queries on a long cache, the context split over the processors.

    Attributes
    ----------
    launch : float
        Seconds of its kernels (the parts, and their combination) with hardly a context.
    per_key : float
        Seconds a key of the context adds, whatever there is to read: the walk along one part.
    queries : int
        Up to so many queries a sequence it is used.
    """

    launch: float
    per_key: float
    queries: int


@dataclass(frozen=True)
class AttentionModel:
    """Prices for `Attention`.

    Attributes
    ----------
    processors : int
        Streaming multiprocessors.
    tile : int
        Queries of a tile, and keys of one step along them.
    bandwidth : float
        Bytes a second of the memory.
    gap : float
        Seconds between two kernels outside a CUDA graph.
    default : str
        The backend that "default" stands for.
    kernels : dict
        `TiledKernel` by backend, then by direction.
    decode : Decode
    """

    processors: int
    tile: int
    bandwidth: float
    gap: float
    default: str
    kernels: dict[str, dict[str, TiledKernel]]
    decode: Decode

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> AttentionModel:
        """Return the model from its section of a profile."""
        kernels = {
            backend: {direction: TiledKernel(**values) for direction, values in directions.items()}
            for backend, directions in section["kernels"].items()
        }
        return cls(**{**section, "kernels": kernels, "decode": Decode(**section["decode"])})

    def seconds(self, work: Attention, *, clock: float, graph: bool) -> float:
        """Return how long the device takes.

        Parameters
        ----------
        work : Attention
        clock : float
            Of the processors, 1 at boost.
        graph : bool
            Whether the kernel runs inside a CUDA graph, with no gap before it.

        Raises
        ------
        ValueError
            If the profile has no such backend.
        """
        gap = 0.0 if graph else self.gap
        if work.direction == "forward" and work.seq <= self.decode.queries and work.kv_seq > work.seq:
            return gap + self._decode(work)
        backend = self.default if work.backend == "default" else work.backend
        if backend not in self.kernels:
            raise ValueError(
                f"attention backend {backend!r} has no numbers in this profile; "
                f"pick one of {', '.join(self.kernels)}"
            )
        return gap + self._tiles(work, self.kernels[backend][work.direction], clock)

    def _decode(self, work: Attention) -> float:
        """Price the reading of K and V, once for all the query heads of a group."""
        read = 2 * work.batch * work.kv_heads * work.kv_seq * work.head_size * np.dtype(work.dtype).itemsize
        return self.decode.launch + work.kv_seq * self.decode.per_key + read / self.bandwidth

    def _tiles(self, work: Attention, kernel: TiledKernel, clock: float) -> float:
        """Share tiles of queries out over the processors.

        No processor has less than its fair share, nor can the last one finish later than a tile after; with
        fewer tiles than processors the longest tile is all.
        """
        steps = ceil(work.kv_seq / self.tile)
        across = ceil(work.seq / self.tile)
        # A causal mask leaves tile i of n the keys up to its own last query.
        mean = max(steps - (across - 1) / 2, 1.0) if work.causal else float(steps)
        step, prologue = self._step(work, kernel, clock), kernel.prologue / clock
        longest = prologue + steps * step
        tiles = work.batch * work.heads * across
        fair = tiles / self.processors * (prologue + mean * step)
        walks = min(ceil(tiles / self.processors) * longest, fair + kernel.tail * longest)
        array = work.batch * work.heads * work.seq * work.head_size * np.dtype(work.dtype).itemsize
        return kernel.launch + walks + kernel.passes * array / self.bandwidth

    def _step(self, work: Attention, kernel: TiledKernel, clock: float) -> float:
        """Price one tile of queries on one tile of keys: the products, then the exponentials.

        Tensor cores take operands by the byte: those of four bytes at half the rate, of one byte at twice.
        """
        products = 2 if work.direction == "forward" else 5
        head = (
            ceil(work.head_size / kernel.head_multiple)
            * kernel.head_multiple
            * np.dtype(work.dtype).itemsize
            / 2
        )
        return 2 * products * self.tile**2 * (head + kernel.softmax) / (kernel.rate * clock)
