"""Fused weights are several pieces, each of them cut; and heads keep their size when they are sharded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from tpsim import nn
from tpsim.comm import Group, solo
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import attentions, mlps
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array
from tpsim.nn.parameter import cut


def cut_evenly(linear: nn.ColumnParallelLinear, group: Group) -> None:
    """Give rank i the i-th stretch of columns, whatever they are."""
    for parameter in (linear.weight, linear.bias):
        if parameter:
            parameter.pieces = (cut(parameter.whole_shape[parameter.axis], group),)


class EvenlyCutQKV(nn.Attention):
    """Cuts [Q | K | V] like any column-parallel weight. (Replicated kv heads would not fit.)"""

    def __init__(self, hidden: int, heads: int, group: Group | None = None, **options: Any) -> None:
        super().__init__(hidden, heads, group, **options)
        if not any(piece.replicas for piece in self.qkv.weight.pieces):
            cut_evenly(self.qkv, group or solo())


class EvenlyCutGateUp(nn.MLP):
    """Cuts [gate | up] like any column-parallel weight, then takes its half for the gate."""

    def __init__(self, hidden: int, ffn: int, group: Group | None = None, **options: Any) -> None:
        super().__init__(hidden, ffn, group, **options)
        cut_evenly(self.up, group or solo())


class ShardSizedRotary(nn.Attention):
    """Reads checkpoints whose rotary pairs are neighbours (2i, 2i+1), and moves them to (i, i + d/2).

    The move is done on the shard, where hidden // heads, with the whole number of heads, is d/t.
    """

    def load(self, whole: Mapping[str, Array]) -> None:
        """Load a checkpoint in the paper's layout of pairs (made here, from the usual one)."""
        d, ranks = self.head_size, self.qkv.weight.pieces[0].parts
        if not self.rotary_base or d % (2 * ranks):  # an odd d/t does not get that far
            super().load(whole)
            return
        names = [name for name in ("qkv.weight", "qkv.bias") if name in whole]
        super().load({**whole, **{name: self._as_in_paper(whole[name], d) for name in names}})
        for parameter in (self.qkv.weight, self.qkv.bias):
            if parameter:
                q, k, _ = parameter.parts_of(parameter.data)
                for part in (q, k):
                    part[...] = _pairs_apart(part, d // ranks)

    def _as_in_paper(self, qkv: Array, d: int) -> Array:
        q, k, _ = self.qkv.weight.pieces
        rotated, v = np.split(qkv, [q.size + k.size], axis=-1)
        return np.concatenate([_pairs_together(rotated, d), v], axis=-1)


def _pairs_apart(columns: Array, head_size: int) -> Array:
    """(2i, 2i+1) → (i, i + d/2) in each head."""
    pairs = columns.reshape(*columns.shape[:-1], -1, head_size // 2, 2)
    return pairs.swapaxes(-1, -2).reshape(columns.shape)


def _pairs_together(columns: Array, head_size: int) -> Array:
    """(i, i + d/2) → (2i, 2i+1) in each head."""
    halves = columns.reshape(*columns.shape[:-1], -1, 2, head_size // 2)
    return halves.swapaxes(-1, -2).reshape(columns.shape)


BUGS = [
    Bug(
        number=19,
        name="qkv-cut-evenly",
        title="fused QKV is cut at the wrong places",
        goes_wrong="rank 0 of two has Q and half of K, and reads them as its Q, K and V.",
        seen_in=("ColossalAI#817", "slapo#46"),
        replaces="tpsim.nn.attention.Attention",
        patient=EvenlyCutQKV,
        caught_by=equals_reference,
        cases=attentions,
    ),
    Bug(
        number=20,
        name="gate-up-cut-at-midpoint",
        title="fused gate-up is cut at its midpoint",
        goes_wrong="rank 0 of two has the whole gate, rank 1 the whole up, and each multiplies its halves.",
        seen_in=("Megatron#360", "Megatron#520"),
        replaces="tpsim.nn.mlp.MLP",
        patient=EvenlyCutGateUp,
        caught_by=equals_reference,
        cases=mlps,
    ),
    Bug(
        number=21,
        name="rotary-by-shard",
        title="rotary columns are permuted after sharding, with the shard's head size",
        goes_wrong="at t = 1 all is right; at t = 2 pairs are mixed within half heads, and positions blur.",
        seen_in=("transformers#48519",),
        replaces="tpsim.nn.attention.Attention",
        patient=ShardSizedRotary,
        caught_by=equals_reference,
        cases=partial(attentions, rotary_base=10_000.0),
    ),
]
