"""Mistakes in how ranks come by their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from tpsim import nn
from tpsim.lab.properties import equals_reference, starts_as_one_device
from tpsim.lab.strategies import layers
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array
from tpsim.nn.parameter import Init

good_load = nn.Layer.load


def load_shard_zero(self: nn.Layer, whole: Mapping[str, Array]) -> None:
    """Load with a loader that was never told its rank."""
    pieces = {name: parameter.pieces for name, parameter in self.parameters().items()}
    for parameter in self.parameters().values():
        parameter.pieces = tuple(replace(piece, part=0) for piece in parameter.pieces)
    good_load(self, whole)
    for name, parameter in self.parameters().items():
        parameter.pieces = pieces[name]


class DrawnByShape(nn.Parameter):
    """Draws just the shard: no rank ever holds the whole. But all ranks have the same generator."""

    def __init__(
        self,
        whole_shape: tuple[int, ...],
        axis: int,
        pieces: Sequence[nn.Piece],
        init: Init,
        rng: np.random.Generator,
        dtype: DTypeLike,
    ) -> None:
        shard = list(whole_shape)
        shard[axis] = sum(piece.local for piece in pieces)
        self.whole_shape = whole_shape
        self.axis = axis
        self.pieces = tuple(pieces)
        self.data = init(rng, tuple(shard)).astype(dtype)
        self.grad = None
        self.summed = False


BUGS = [
    Bug(
        number=24,
        name="everyone-loads-shard-zero",
        title="every rank loads shard 0",
        goes_wrong="shapes fit and nothing complains: the model uses the first part of each weight t times.",
        seen_in=("vllm-gguf-plugin#103",),
        replaces="tpsim.nn.layer.Layer.load",
        patient=load_shard_zero,
        caught_by=equals_reference,
        cases=layers,
    ),
    Bug(
        number=25,
        name="shards-start-alike",
        title="every rank is initialised alike inside the region",
        goes_wrong="t equal shards are a layer of f/t neurons; and every t starts from another model.",
        seen_in=("InternLM#405", "PaddleNLP#9426"),
        replaces="tpsim.nn.parameter.Parameter",
        patient=DrawnByShape,
        caught_by=starts_as_one_device,
        cases=layers,
    ),
]
