"""Gradients of replicated parameters, summed once too often, not at all, into a copy, or averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tpsim import nn
from tpsim.comm import Group
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import attentions, blocks, norms
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.attention import kv_piece
from tpsim.nn.layer import Array
from tpsim.trace import scope

good_sum = nn.sum_replica_gradients


def sum_all_replicas(layer: nn.Layer) -> None:
    """Sum the gradient of everything that is replicated: better once too often than not at all."""
    for parameter in layer.parameters().values():
        parameter.pieces = tuple(replace(piece, partial=True) for piece in parameter.pieces)
    good_sum(layer)


def average_replicas(layer: nn.Layer) -> None:
    """Average, as data parallelism does."""
    good_sum(layer)
    for parameter in layer.parameters().values():
        if parameter.grad is not None:
            for piece, share in zip(parameter.pieces, parameter.parts_of(parameter.grad), strict=True):
                if piece.partial and piece.replicas:
                    share /= piece.replicas.size


def sum_into_copies(layer: nn.Layer) -> None:
    """Sum all shares in one buffer, and write each back to where it came from, flat as it is there."""
    shares: dict[Group, list[Array]] = {}
    for parameter in layer.parameters().values():
        if parameter.grad is not None:
            for piece, share in zip(parameter.pieces, parameter.parts_of(parameter.grad), strict=True):
                if piece.partial and piece.replicas:
                    shares.setdefault(piece.replicas, []).append(share)
    with scope("gradients", "backward"):
        for group, parts in shares.items():
            total = group.all_reduce(np.concatenate([part.reshape(-1) for part in parts]))
            ends = np.cumsum([part.size for part in parts])
            for part, summed in zip(parts, np.split(total, ends[:-1]), strict=True):
                part.reshape(-1)[...] = summed  # a view of contiguous memory; else of a copy, gone at once


class WholeLayerNorm(nn.LayerNorm):
    """A norm does not communicate, so it need not know about parallelism."""

    def __init__(self, size: int, group: Group | None = None, **options: Any) -> None:
        super().__init__(size, group, **options | {"partial": False})


class WholeHeadNorms(nn.Attention):
    """The q and k norms are replicated, and without sequence parallelism replicas need no sum."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for norm in (self.q_norm, self.k_norm):
            if norm:
                norm.weight.pieces = tuple(replace(piece, partial=False) for piece in norm.weight.pieces)


def whole_kv_piece(kv_heads: int, head_size: int, group: Group) -> nn.Piece:
    """Replicate kv heads, and leave it at that."""
    return replace(kv_piece(kv_heads, head_size, group), partial=False)


BUGS = [
    Bug(
        number=5,
        name="reduced-twice",
        title="gradients of replicated weights are summed although f has summed dx",
        goes_wrong="norm and row-bias gradients are t times too large, in tensor parallelism without SP.",
        seen_in=("AReno#496",),
        replaces="tpsim.nn.gradients.sum_replica_gradients",
        patient=sum_all_replicas,
        caught_by=equals_reference,
        cases=norms,
    ),
    Bug(
        number=7,
        name="reduced-copy-dropped",
        title="the sum goes into a contiguous copy, which is dropped: all_reduce(x.contiguous())",
        goes_wrong="right for contiguous gradients, lost for slices of fused ones: replicated K and V heads "
        "drift apart, their biases do not.",
        seen_in=("Megatron#5337",),
        replaces="tpsim.nn.gradients.sum_replica_gradients",
        patient=sum_into_copies,
        caught_by=equals_reference,
        cases=attentions,
    ),
    Bug(
        number=8,
        name="norms-not-summed",
        title="norm gradients are not summed under sequence parallelism",
        goes_wrong="each rank's γ learns from its own part of the sequence; the copies drift apart.",
        seen_in=("gpt-neox#1257",),
        replaces="tpsim.nn.norm.LayerNorm",
        patient=WholeLayerNorm,
        caught_by=equals_reference,
        cases=norms,
    ),
    Bug(
        number=9,
        name="averaged-not-summed",
        title="gradients of replicas are averaged, not summed",
        goes_wrong="norm gradients are t times too small under SP; Adam hides it, gradient norms don't.",
        seen_in=("gpt-neox#1259",),
        replaces="tpsim.nn.gradients.sum_replica_gradients",
        patient=average_replicas,
        caught_by=equals_reference,
        cases=blocks,
    ),
    Bug(
        number=10,
        name="head-norms-not-summed",
        title="q/k-norm gradients are not summed",
        goes_wrong="each rank's q and k norms learn from its own heads, SP or not; the copies drift apart.",
        seen_in=("NeMo-RL#3716",),
        replaces="tpsim.nn.attention.Attention",
        patient=WholeHeadNorms,
        caught_by=equals_reference,
        cases=attentions,
    ),
    Bug(
        number=22,
        name="kv-replicas-not-summed",
        title="gradients of replicated kv heads are not summed",
        goes_wrong="with fewer kv heads than ranks, each copy of a head learns from its own queries only, "
        "and the copies drift apart.",
        seen_in=("bigcode Megatron-LM#37",),
        replaces="tpsim.nn.attention.kv_piece",
        patient=whole_kv_piece,
        caught_by=equals_reference,
        cases=attentions,
    ),
]
