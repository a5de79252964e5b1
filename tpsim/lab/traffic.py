"""Which collectives a layer makes, in which order, of which shape: CONTRACTS' table, written out.

Nothing here looks at a layer. Only the bytes of *one* collective of given size come from elsewhere, from the
closed forms of the algorithms (`tpsim.comm.algorithms.closed_form`), which hold for uneven chunks too.
"""

from __future__ import annotations

from functools import singledispatch
from math import prod
from typing import NamedTuple

from tpsim.comm.algorithms.closed_form import sent
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


class Move(NamedTuple):
    """One collective: what every rank gives, and in which layer."""

    operation: str
    shape: tuple[int, ...]
    layer: str = ""


class Traffic(NamedTuple):
    """The collectives of a layer, in order."""

    forward: list[Move]
    backward: list[Move]

    def inside(self, name: str) -> Traffic:
        """Return the same, of a sub-layer of that name."""
        return Traffic(*([m._replace(layer=f"{name}.{m.layer}".strip(".")) for m in way] for way in self))


class Sum(NamedTuple):
    """One coalesced all-reduce of gradients that replicas have in shares: once a step."""

    ranks: int
    elements: int


@singledispatch
def traffic(case: LayerCase) -> Traffic:
    """Return a layer's collectives, without the sums of replicas' gradients."""
    raise NotImplementedError(f"traffic: none known for {type(case).__name__}; register some")


@traffic.register
def _column(case: ColumnCase) -> Traffic:
    """TP: f. SP: gather x; gather it again if only a part was kept; scatter dx. Then the output's gather."""
    t, b, s, h, f = case.ranks, case.batch, case.seq, case.in_features, case.out_features
    gather_x, whole_dx = Move("all_gather", (b, s // t, h)), (b, s, h)
    forward, backward = [], [Move("all_reduce", whole_dx)]
    if case.sequence_parallel:
        forward = [gather_x]
        backward = [*([] if case.keep_gathered else [gather_x]), Move("reduce_scatter", whole_dx)]
    if case.gather_output:
        forward = [*forward, Move("all_gather", (b, s, f // t))]  # backward: own slice, nothing to send
    return Traffic(forward, backward)


@traffic.register
def _row(case: RowCase) -> Traffic:
    """TP: g. SP: scatter y, gather dy. An x that was cut here is gathered as dx."""
    t, b, s, f, h = case.ranks, case.batch, case.seq, case.in_features, case.out_features
    forward, backward = [Move("all_reduce", (b, s, h))], []
    if case.sequence_parallel:
        forward = [Move("reduce_scatter", (b, s, h))]
        backward = [Move("all_gather", (b, s // t, h))]
    if not case.input_is_parallel:
        backward = [*backward, Move("all_gather", (b, s, f // t))]
    return Traffic(forward, backward)


@traffic.register
def _norm(case: NormCase) -> Traffic:
    return Traffic([], [])


@traffic.register
def _parallel_norm(case: ParallelNormCase) -> Traffic:
    statistic = Move("all_reduce", (case.batch, case.seq, 1))
    return Traffic([statistic], [statistic])


def _region(case: MLPCase | AttentionCase, first: str, last: str) -> Traffic:
    """A column-parallel layer, local work, a row-parallel one: 1 + 1 all-reduces, or AG + RS each way."""
    t, b, s, h = case.ranks, case.batch, case.seq, case.hidden
    if case.sequence_parallel:
        gather, scatter = Move("all_gather", (b, s // t, h)), Move("reduce_scatter", (b, s, h))
        enter = Traffic([gather], [scatter] if case.keep_gathered else [gather, scatter])
        leave = Traffic([scatter], [gather])
    else:
        reduce = Move("all_reduce", (b, s, h))
        enter, leave = Traffic([], [reduce]), Traffic([reduce], [])
    enter, leave = enter.inside(first), leave.inside(last)
    return Traffic(enter.forward + leave.forward, leave.backward + enter.backward)


@traffic.register
def _mlp(case: MLPCase) -> Traffic:
    return _region(case, "up", "down")


@traffic.register
def _attention(case: AttentionCase) -> Traffic:
    return _region(case, "qkv", "out")


@traffic.register
def _block(case: BlockCase) -> Traffic:
    """Two regions; backward in the other order."""
    attention = _region(case, "qkv", "out").inside("attention")
    mlp = _region(case.part(MLPCase), "up", "down").inside("mlp")
    return Traffic(attention.forward + mlp.forward, mlp.backward + attention.backward)


@singledispatch
def shares(case: LayerCase) -> int:
    """Return how many elements of gradients the tp group sums once a step."""
    return 0


@shares.register
def _row_shares(case: RowCase) -> int:
    return case.out_features if case.sequence_parallel and case.bias else 0


@shares.register
def _norm_shares(case: NormCase) -> int:
    return case.hidden * (2 if case.norm == "layer" else 1) if case.sequence_parallel else 0


@shares.register
def _mlp_shares(case: MLPCase) -> int:
    return case.hidden if case.sequence_parallel and case.bias else 0


@shares.register
def _attention_shares(case: AttentionCase) -> int:
    """The row bias under SP; q and k norms always, for each rank sees its own heads only."""
    bias = case.hidden if case.sequence_parallel and case.bias else 0
    return bias + (2 * case.head_size if case.qk_norm else 0)


@shares.register
def _block_shares(case: BlockCase) -> int:
    norms, mlp = shares(case.part(NormCase)), shares(case.part(MLPCase))
    return 2 * norms + _attention_shares(case) + mlp


def sums(case: LayerCase) -> list[Sum]:
    """Return the coalesced all-reduces that follow the last backward of a step."""
    found = []
    if case.ranks > 1 and shares(case):
        found.append(Sum(case.ranks, shares(case)))
    if isinstance(case, AttentionCase) and case.copies > 1:
        inputs = case.hidden + case.bias  # rows of the weight, and the bias
        found.append(Sum(case.copies, 2 * case.head_size * inputs))  # one head's K and V
    by_ranks: dict[int, int] = {}  # with a single kv head, its replicas are the whole group
    for ranks, elements in found:
        by_ranks[ranks] = by_ranks.get(ranks, 0) + elements
    return [Sum(ranks, elements) for ranks, elements in sorted(by_ranks.items())]


class Sent(NamedTuple):
    """An event as a trace must have it."""

    phase: str
    layer: str
    operation: str
    ranks: int
    shape: tuple[int, ...]
    messages: int
    bytes_sent: int


def events(case: LayerCase, rank: int) -> tuple[list[Sent], list[Sent]]:
    """Return what one rank's trace must show: the passes' collectives in order, and the sums of replicas."""
    passes = [
        _event(case, phase, move, case.ranks, rank)
        for phase, moves in zip(("forward", "backward"), traffic(case), strict=True)
        for move in moves
    ]
    totals = [
        _event(
            case, "backward", Move("all_reduce", (n,), "gradients"), ranks, rank % ranks
        )  # replicas are neighbours
        for ranks, n in sums(case)
    ]
    return passes, totals


def _event(case: LayerCase, phase: str, move: Move, ranks: int, rank: int) -> Sent:
    whole = prod(move.shape) * (ranks if move.operation == "all_gather" else 1)
    cost = sent(move.operation, case.algorithm, rank, ranks, whole)
    return Sent(
        phase, move.layer, move.operation, ranks, move.shape, cost.messages, cost.elements * case.itemsize
    )
