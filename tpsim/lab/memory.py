"""How much a rank saves for backward: written out tensor by tensor, and as the papers' formulas.

In elements; t ranks, b batch, s sequence, h hidden, f ffn, a heads, g kv heads, d head size.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

from tpsim.lab.cases import (
    AttentionCase,
    BlockCase,
    ColumnCase,
    LayerCase,
    MLPCase,
    NormCase,
    ParallelNormCase,
    RowCase,
)


class Saved(NamedTuple):
    """Elements: what the papers count, and the small statistics that they don't."""

    activations: int
    statistics: int = 0


@singledispatch
def saved(case: LayerCase) -> Saved:
    """Return what each rank keeps between forward and backward."""
    raise NotImplementedError(f"saved: no sum for {type(case).__name__}; register one")


def entering(case: ColumnCase | MLPCase | AttentionCase, width: int) -> int:
    """x of a column-parallel layer: whole without SP, the local part with it, unless the gathered is kept."""
    x = case.batch * case.seq * width
    return x // case.ranks if case.sequence_parallel and not case.keep_gathered else x


@saved.register
def _column(case: ColumnCase) -> Saved:
    return Saved(entering(case, case.in_features))


@saved.register
def _row(case: RowCase) -> Saved:
    return Saved(case.batch * case.seq * case.in_features // case.ranks)


@saved.register
def _mlp(case: MLPCase) -> Saved:
    """x; what goes into the activation (gate and up for swiglu), and what comes out: each f/t wide."""
    inner = case.batch * case.seq * case.ffn // case.ranks
    return Saved(entering(case, case.hidden) + (3 if case.activation == "swiglu" else 2) * inner)


@saved.register
def _norm(case: NormCase) -> Saved:
    """x; of each row its 1/σ, and for LayerNorm its mean."""
    rows = case.batch * case.seq // (case.ranks if case.sequence_parallel else 1)
    return Saved(rows * case.hidden, rows * (2 if case.norm == "layer" else 1))


@saved.register
def _parallel_norm(case: ParallelNormCase) -> Saved:
    rows = case.batch * case.seq
    return Saved(rows * case.hidden // case.ranks, rows)


@saved.register
def _attention(case: AttentionCase) -> Saved:
    """x; Q, K and V; the output projection's input; q and k unnormed; the probabilities a/t·s².

    Flash attention keeps two numbers a row in place of the probabilities.
    """
    rows = case.batch * case.seq
    heads, kv_heads = case.heads // case.ranks, case.kv_heads_here
    q, kv = rows * heads * case.head_size, rows * kv_heads * case.head_size
    activations, statistics = entering(case, case.hidden) + (q + 2 * kv) + q, 0
    if case.flash:
        statistics += 2 * rows * heads
    else:
        activations += rows * case.seq * heads
    if case.qk_norm:
        activations += q + kv
        statistics += rows * (heads + kv_heads)
    return Saved(activations, statistics)


@saved.register
def _block(case: BlockCase) -> Saved:
    norm, mlp = saved(case.part(NormCase)), saved(case.part(MLPCase))
    attention = saved(case.part(AttentionCase))
    return Saved(*(2 * n + a + m for n, a, m in zip(norm, attention, mlp, strict=True)))


def papers_bytes(case: BlockCase) -> int:
    """Return the bytes that Korthikanti et al. (2022) give for a GPT block without dropout, on one rank.

    Table 2 is in bytes of 2-byte elements, with 1-byte dropout masks and the dropped copy of the scores.
    Without those: attention 10sbh + 2as²b, MLP 18sbh, norms 4sbh, together 32sbh + 2as²b; of these the two
    norms' inputs and the two regions' inputs (8sbh) are whole on each rank under tensor parallelism. Under
    sequence parallelism everything is cut by t, but for the regions' inputs (4sbh) if they are kept gathered.
    """
    t, sbh = case.ranks, case.seq * case.batch * case.hidden
    scores = 2 * case.heads * case.seq**2 * case.batch
    if not case.sequence_parallel:
        two_byte = t * 8 * sbh + 24 * sbh + scores
    elif case.keep_gathered:
        two_byte = t * 4 * sbh + 28 * sbh + scores
    else:
        two_byte = 32 * sbh + scores
    return two_byte * case.itemsize // (2 * t)
