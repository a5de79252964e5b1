"""hypothesis strategies for the cases. They draw shapes and options; all numbers come from a case's seed.

Each takes `ranks`, the numbers of ranks to pick from, and fixed values for any field:
`blocks(ranks=(2, 4), sequence_parallel=True)`. Everything shrinks to its simplest: one rank, one row, no
options, ring, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tpsim.comm.algorithms import ALGORITHMS
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

Pick: TypeAlias = Callable[[str, SearchStrategy[Any]], Any]
Fields: TypeAlias = dict[str, Any]

RANKS = range(1, 9)
FEW = st.integers(1, 4)
WIDE = 4  # the least hidden, ffn and width of K: with fewer entries, all may cancel (see `magnitude`)
HIDDEN = st.integers(WIDE, 12)


def picker(draw: DrawFn, fixed: Fields) -> Pick:
    """Return a function that gives a field's fixed value, or draws it."""
    return lambda name, strategy: fixed[name] if name in fixed else draw(strategy)


def draw_common(pick: Pick, ranks: Sequence[int], *, sequence_parallel: bool = False) -> Fields:
    """Draw what all cases have in common."""
    t = pick("ranks", st.sampled_from(ranks))
    return {
        "ranks": t,
        "batch": pick("batch", st.integers(1, 3)),
        "seq": pick(
            "seq", st.integers(1, 2).map(lambda n: n * t) if sequence_parallel else st.integers(1, 6)
        ),
        "dtype": pick("dtype", st.sampled_from(["float64", "float32"])),
        "algorithm": pick("algorithm", st.sampled_from(list(ALGORITHMS))),
        "messages": pick("messages", st.booleans()),
        "seed": pick("seed", st.integers(0, 999)),
    }


def draw_switches(pick: Pick, *names: str) -> Fields:
    """Draw True or False for each name; the case's default is the simplest."""
    usually_on = {"input_is_parallel"}
    return {name: pick(name, st.sampled_from([name in usually_on, name not in usually_on])) for name in names}


@st.composite
def columns(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> ColumnCase:
    """Column-parallel linears."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "bias", "gather_output", "sequence_parallel", "keep_gathered", "integers")
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    return ColumnCase(
        in_features=pick("in_features", st.integers(1, 12)),
        out_features=pick("out_features", FEW.map(lambda n: n * common["ranks"])),
        **common,
        **switches,
    )


@st.composite
def rows(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> RowCase:
    """Row-parallel linears."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "bias", "input_is_parallel", "sequence_parallel", "integers")
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    return RowCase(
        in_features=pick("in_features", FEW.map(lambda n: n * common["ranks"])),
        out_features=pick("out_features", st.integers(1, 12)),
        **common,
        **switches,
    )


def draw_mlp(pick: Pick, ranks: int) -> Fields:
    """Draw what belongs to an MLP."""
    return {
        "ffn": pick("ffn", FEW.map(lambda n: max(n, -(-WIDE // ranks)) * ranks)),
        "activation": pick("activation", st.sampled_from(["gelu_tanh", "gelu", "swiglu"])),
    }


@st.composite
def mlps(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> MLPCase:
    """MLPs."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "bias", "sequence_parallel", "keep_gathered")
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    return MLPCase(hidden=pick("hidden", HIDDEN), **draw_mlp(pick, common["ranks"]), **common, **switches)


@st.composite
def norms(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> NormCase:
    """Layer norms and RMS norms."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "sequence_parallel")
    return NormCase(
        norm=pick("norm", st.sampled_from(["layer", "rms"])),
        hidden=pick("hidden", HIDDEN),
        **draw_common(pick, ranks, **switches),
        **switches,
    )


@st.composite
def parallel_norms(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> ParallelNormCase:
    """RMS norms whose last axis is cut."""
    pick = picker(draw, fixed)
    common = draw_common(pick, ranks)
    t = common["ranks"]
    return ParallelNormCase(
        hidden=pick("hidden", st.integers(-(-WIDE // t), 6).map(lambda n: n * t)), **common
    )


ATTENTION_SWITCHES = ("causal", "qk_norm", "bias", "flash", "sequence_parallel", "keep_gathered")


def draw_attention(pick: Pick, t: int, *, qk_norm: bool) -> Fields:
    """Draw heads: t divides them; kv heads divide them, and divide t or are divided by it."""
    heads = pick("heads", FEW.map(lambda n: n * t))
    shared = [g for g in range(heads, 0, -1) if heads % g == 0 and (g % t == 0 or t % g == 0)]
    rotary_base = pick("rotary_base", st.sampled_from([None, 10_000.0, 50.0]))
    kv_heads = pick("kv_heads", st.sampled_from(shared))
    # The norm of a single entry is its sign: its gradient is zero, and nothing can be compared.
    least = max(-(-WIDE // kv_heads), 2 if qk_norm else 1)
    sizes = st.sampled_from([d for d in range(least, 7) if d % 2 == 0 or not rotary_base])
    return {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": pick("head_size", sizes),
        "rotary_base": rotary_base,
    }


@st.composite
def attentions(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> AttentionCase:
    """Attentions: kv heads replicated or not, rotary or not, q and k normed or not."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, *ATTENTION_SWITCHES)
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    heads = draw_attention(pick, common["ranks"], qk_norm=switches["qk_norm"])
    usual = st.just(heads["heads"] * heads["head_size"]).filter(lambda n: n >= WIDE) | HIDDEN
    return AttentionCase(hidden=pick("hidden", usual), **heads, **common, **switches)


@st.composite
def blocks(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> BlockCase:
    """Transformer blocks with all their options."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, *ATTENTION_SWITCHES)
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    return BlockCase(
        hidden=pick("hidden", HIDDEN),
        norm=pick("norm", st.sampled_from(["layer", "rms"])),
        **draw_attention(pick, common["ranks"], qk_norm=switches["qk_norm"]),
        **draw_mlp(pick, common["ranks"]),
        **common,
        **switches,
    )


@st.composite
def paper_blocks(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> BlockCase:
    """Draw the blocks of the papers' memory formulas: GPT's, with ffn = 4·hidden."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "causal", "bias", "sequence_parallel", "keep_gathered")
    common = draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"])
    heads = pick("heads", st.integers(1, 2).map(lambda n: n * common["ranks"]))
    size = pick("head_size", st.integers(-(-WIDE // heads), 5))
    return BlockCase(
        hidden=heads * size,
        heads=heads,
        kv_heads=heads,
        head_size=size,
        ffn=4 * heads * size,
        activation=pick("activation", st.sampled_from(["gelu_tanh", "gelu"])),
        **common,
        **switches,
    )


LAYERS: dict[str, Callable[..., SearchStrategy[LayerCase]]] = {
    "ColumnParallelLinear": columns,
    "RowParallelLinear": rows,
    "LayerNorm and RMSNorm": norms,
    "ParallelRMSNorm": parallel_norms,
    "MLP": mlps,
    "Attention": attentions,
    "TransformerBlock": blocks,
}
"""The strategy of every layer, from the smallest to the largest."""


def layers(ranks: Sequence[int] = RANKS) -> SearchStrategy[LayerCase]:
    """Any layer."""
    return st.one_of([draw_cases(ranks=ranks) for draw_cases in LAYERS.values()])
