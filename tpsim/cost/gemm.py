"""What a matrix product takes: tiles in waves over the device's processors, or its bytes from memory.

A library computes Y = X A in tiles of a few shapes, one on each processor at a time, and picks the shape, and
how often to split the sum over k, that end first. Three effects of size follow: a last wave that leaves
processors idle, edges padded to whole tiles, and a start and an end of each tile that a short k does not
hide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes  # noqa: F401 - from here on NumPy knows bfloat16 and the float8 types by name
import numpy as np

from tpsim.cost.work import Gemm

_PARTIAL_BYTES = 8  # an element of a partial sum is a float32, written and read again


@dataclass(frozen=True)
class GemmModel:
    """Seconds of a matrix product with output [rows, columns] summed over `depth`.

    For a tile of a × b outputs and the sum split in s, every processor works through
    w = ⌈⌈rows/a⌉·⌈columns/b⌉·batch·s / processors⌉ tiles, one after the other::

        loop   = depth/s · max(2ab / (rate/processors), (a + b)·e / load)
        tiles  = w · (tile_start + loop + ab · tile_end) - tile_start
        memory = bytes / bandwidth            # operands, result, and partial sums if s > 1
        time   = (gap + tile_start + [s > 1] · reduce)/clock + ((tiles/clock)^q + memory^q)^(1/q)

    with q = overlap. Until the first tile has started nothing streams; from then on tiles and memory overlap,
    perfectly for q → ∞, and in a real kernel a little less. The cheapest of `tiles` × `splits` is taken, each
    tile also turned by a quarter.

    Attributes
    ----------
    processors : int
        Streaming multiprocessors.
    rate : dict
        FLOPs a second by dtype, of all processors at the boost clock, inside the loop over k.
    load : float
        Bytes a second at which one processor takes in operands.
    bandwidth : float
        Bytes a second that a product streams from memory.
    tile_start, tile_end : float
        Seconds before the loop over k, and after it for each element of the tile.
    reduce : float
        Seconds that summing the parts of a split sum adds.
    overlap : float
        q above.
    gap, graph_gap : float
        Seconds of a kernel that does nothing, launched from a full queue, and inside a CUDA graph.
    tiles : tuple of (int, int)
    splits : tuple of int
        What the library chooses from.
    step : int
        Elements of k that a tile takes in at once; k is padded to it.
    """

    processors: int
    rate: dict[str, float]
    load: float
    bandwidth: float
    tile_start: float
    tile_end: float
    reduce: float
    overlap: float
    gap: float
    graph_gap: float
    tiles: tuple[tuple[int, int], ...]
    splits: tuple[int, ...]
    step: int = 64

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> GemmModel:
        """Return the model of a profile's section "gemm"."""
        tiles = tuple((a, b) for a, b in section["tiles"])
        return cls(**{**section, "tiles": tiles, "splits": tuple(section["splits"])})

    def seconds(self, work: Gemm, *, clock: float = 1.0, graph: bool = False) -> float:
        """Return how long a product takes, queued behind other kernels.

        Parameters
        ----------
        work : Gemm
        clock : float
            Relative to the boost clock; it slows all but memory.
        graph : bool
            Whether it runs inside a CUDA graph.

        Raises
        ------
        ValueError
            If the device has no rate for the dtype.
        """
        key = work, clock, graph
        if key not in self._priced:
            self._priced[key] = self._cheapest(*key)
        return self._priced[key]

    def _cheapest(self, work: Gemm, clock: float, graph: bool) -> float:
        rows, columns, depth = extents(work)
        size = itemsize(work.dtype)
        a, b, split = self._candidates

        flops = 2 * a * b / (self._rate_of(work.dtype) / self.processors)
        load = (a + b) * size / self.load
        loop = self.step * np.ceil(depth / (self.step * split)) * np.maximum(flops, load)
        waves = np.ceil(np.ceil(rows / a) * np.ceil(columns / b) * work.batch * split / self.processors)
        tiles = waves * (self.tile_start + loop + a * b * self.tile_end) - self.tile_start

        outputs = work.batch * rows * columns
        partial = np.where(split > 1, _PARTIAL_BYTES * split * outputs, 0)
        operands = work.batch * (rows + columns) * depth
        memory = ((operands + outputs) * size + partial) / self.bandwidth

        q = self.overlap
        streaming = ((tiles / clock) ** q + memory**q) ** (1 / q)
        start = (self.graph_gap if graph else self.gap) + self.tile_start
        return float(np.min(streaming + np.where(split > 1, self.reduce, 0) / clock)) + start / clock

    def matmul_seconds(self, work: Gemm) -> float:
        """Return what its FLOPs, without padding, would take at the full rate: see `Demand.matmul`."""
        return work.flops / self._rate_of(work.dtype)

    def memory_seconds(self, work: Gemm) -> float:
        """Return what its bytes would take at the full bandwidth: see `Demand.memory`."""
        rows, columns, depth = extents(work)
        elements = (rows + columns) * depth + rows * columns
        return work.batch * elements * itemsize(work.dtype) / self.bandwidth

    def _rate_of(self, dtype: str) -> float:
        if dtype not in self.rate:
            raise ValueError(
                f"a product of {dtype}: this hardware has no rate for it; "
                f"pick one of {', '.join(self.rate)}, or add it to the profile's gemm.rate"
            )
        return self.rate[dtype]

    @cached_property
    def _priced(self) -> dict[tuple[Gemm, float, bool], float]:
        """Prices so far: the layers of a model repeat the same few products."""
        return {}

    @cached_property
    def _candidates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tile rows, tile columns and split of every choice, [choices] each."""
        shapes = sorted({turned for a, b in self.tiles for turned in ((a, b), (b, a))})
        choices = np.array([(a, b, split) for a, b in shapes for split in self.splits], dtype=np.float64)
        a, b, split = choices.T
        return a, b, split


def extents(work: Gemm) -> tuple[int, int, int]:
    """Return rows and columns of the output, and the length of the sum.

    Examples
    --------
    >>> extents(Gemm(m=8192, n=512, k=2048, layout="wgrad"))
    (2048, 512, 8192)
    """
    match work.layout:
        case "forward":
            return work.m, work.n, work.k
        case "dgrad":
            return work.m, work.k, work.n
        case "wgrad":
            return work.k, work.n, work.m


def itemsize(dtype: str) -> int:
    """Return the bytes of an operand's element; "tf32" is how matrix units take float32."""
    return 4 if dtype == "tf32" else int(np.dtype(dtype).itemsize)
