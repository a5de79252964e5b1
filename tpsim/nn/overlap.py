"""The option `overlap`: how a region's communication is hidden behind its GEMMs, if at all.

    ============  ==============================================================  ===========================
    overlap       what is hidden                                                  equals the plain layers
    ============  ==============================================================  ===========================
    "none"        nothing: each rank waits for every collective                   they are the plain layers
    "dw"          backward's all-reduce (or gather and scatter) of a              to 1e-12; bit for bit where
                  column-parallel linear, see `overlap_dw`                        no GEMM is cut for polling
    "decomposed"  every gather and scatter of the sequence at a linear, see       to 1e-12
                  `overlap_decomposed`
    ============  ==============================================================  ===========================

None sends a byte more than the plain layers do on a ring. Layers ask here which linears to build.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from tpsim.nn.embedding import LMHead
from tpsim.nn.linear import ColumnParallelLinear, RowParallelLinear
from tpsim.nn.overlap_decomposed import (
    DecomposedColumnParallelLinear,
    DecomposedLMHead,
    DecomposedRowParallelLinear,
)
from tpsim.nn.overlap_dw import OverlappedColumnParallelLinear, OverlappedLMHead

Overlap: TypeAlias = Literal["none", "dw", "decomposed"]


def column_parallel(overlap: Overlap) -> type[ColumnParallelLinear]:
    """Return the class of a region's first linear."""
    check_overlap(overlap)
    if overlap == "dw":
        return OverlappedColumnParallelLinear
    return DecomposedColumnParallelLinear if overlap == "decomposed" else ColumnParallelLinear


def row_parallel(overlap: Overlap) -> type[RowParallelLinear]:
    """Return the class of a region's last linear."""
    check_overlap(overlap)
    return DecomposedRowParallelLinear if overlap == "decomposed" else RowParallelLinear


def lm_head(overlap: Overlap) -> type[LMHead]:
    """Return the class of a language model's head."""
    check_overlap(overlap)
    if overlap == "dw":
        return OverlappedLMHead
    return DecomposedLMHead if overlap == "decomposed" else LMHead


def check_overlap(overlap: str) -> None:
    """Raise ValueError unless there is such an overlap."""
    if overlap not in ("none", "dw", "decomposed"):
        raise ValueError(f"overlap: {overlap!r} is not known; pick 'none', 'dw' or 'decomposed'")
