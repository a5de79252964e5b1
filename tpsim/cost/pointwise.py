"""How long kernels take that memory bounds: element-wise operations, norms, copies, reductions.

Each family of kernels has a floor, a bandwidth when its arrays come from memory, and another when they still
lie in the level-2 cache. Norms, which give each row to one block of threads, add what a row costs.

What `Pointwise.nbytes` counts, in arrays of [rows, width] read and written:

===================== ====== =============================================================
name                  arrays which
===================== ====== =============================================================
add, mul              3      both inputs, the output (2 where a scalar or a bias is one)
gelu, silu            2      x → y
gelu.backward         3      x, dy → dx
layer_norm, rms_norm  2      x → y
….backward of a norm  3      x, dy → dx; that dγ and dβ read x and dy again is in the family
silu_mul              3      gate, up → y, halves of one [rows, 2·width] array, two kernels
silu_mul.backward     5      gate, up, dy → dgate, dup
silu_strided          2      half of a [rows, 2·width] array → y
mul_strided           3      y, the other half → y
copy, cast            2      x → y
strided_copy          2      axes change places, the innermost stays: [s, b, h] → [b, s, h]
transpose             2      the innermost axis changes place
cat                   2      of the joined array
grad_accumulate       3      gradient, new gradient → gradient
kv_write              4      k, v → their place in the cache; [batch · kv_heads, head size]
softmax, dropout      2      x → y (and a mask of 1 byte, for dropout)
softmax.backward      3      y, dy → dx
sum                   1      x, with rows and width of x
embedding             2      rows looked up → y
rotary                2      x → y
adamw                        what it reads and writes, by the sizes of its state
===================== ====== =============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpsim.cost.work import Pointwise

_SHARPNESS = 6  # of the change from cache to memory, as arrays outgrow the cache


@dataclass(frozen=True)
class Family:
    """Kernels that behave alike.

    Attributes
    ----------
    floor : float
        Seconds with hardly any work.
    bandwidth, cached : float
        Bytes a second, of arrays in memory and of arrays in the level-2 cache.
    per_column, per_row : float
        Seconds that the width of one row adds (the walk along it), and that each row adds.
    reread : float
        Seconds a byte, of what has left the closest cache when a second walk along the row needs it.
    scatter : float
        Seconds that many rows to write apart from each other add to one.
    """

    floor: float
    bandwidth: float
    cached: float
    per_column: float = 0.0
    per_row: float = 0.0
    reread: float = 0.0
    scatter: float = 0.0


@dataclass(frozen=True)
class PointwiseModel:
    """Prices for `Pointwise`.

    Attributes
    ----------
    gap : float
        Seconds between two kernels outside a CUDA graph.
    cache : float
        Bytes, read and written together, of which half are found in the level-2 cache.
    row_cache : float
        Width up to which a row stays in the closest cache from one walk to the next.
    families : dict
        `Family` by name; "add" stands for whatever has no other.
    like : dict
        Names that were not measured, and the family that they are taken to resemble.
    """

    gap: float
    cache: float
    row_cache: float
    families: dict[str, Family]
    like: dict[str, str]

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> PointwiseModel:
        """Return the model from its section of a profile."""
        return cls(**{**section, "families": {name: Family(**f) for name, f in section["families"].items()}})

    def family(self, name: str) -> Family:
        """Return the numbers behind a name."""
        return self.families[name if name in self.families else self.like.get(name, "add")]

    def seconds(self, work: Pointwise, *, graph: bool) -> float:
        """Return how long the device takes; inside a CUDA graph without a gap before it."""
        family = self.family(work.name)
        hit = 1 / (1 + (work.nbytes / self.cache) ** _SHARPNESS)
        streams = work.nbytes * (hit / family.cached + (1 - hit) / family.bandwidth)
        overflow = max(0.0, 1 - self.row_cache / max(work.width, 1))
        rows = (
            work.width * family.per_column
            + work.rows * family.per_row
            + work.nbytes * overflow * family.reread
            + family.scatter * (1 - 1 / max(work.rows, 1))
        )
        return (0.0 if graph else self.gap) + family.floor + streams + rows
