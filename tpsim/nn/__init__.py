"""Layers: forward and backward by hand, in plain NumPy, on one rank's shards.

They talk through a `Group` at the borders of tensor-parallel regions (`borders`) and nowhere else.
"""

from tpsim.nn.attention import Attention
from tpsim.nn.block import TransformerBlock
from tpsim.nn.borders import (
    CopyToRegion,
    GatherLast,
    GatherSequence,
    ReduceFromRegion,
    ScatterLast,
    ScatterSequence,
    own_slice,
)
from tpsim.nn.dropout import Dropout
from tpsim.nn.embedding import LMHead, PositionEmbedding, VocabParallelEmbedding, padded_vocab
from tpsim.nn.gradients import sum_replica_gradients
from tpsim.nn.layer import Layer
from tpsim.nn.linear import ColumnParallelLinear, RowParallelLinear
from tpsim.nn.loss import VocabParallelCrossEntropy, count_valid, mean_over_valid
from tpsim.nn.masks import drawing
from tpsim.nn.mlp import MLP
from tpsim.nn.norm import LayerNorm, ParallelRMSNorm, RMSNorm
from tpsim.nn.parameter import Parameter, Piece, Placed, assemble, put_together

__all__ = [
    "MLP",
    "Attention",
    "ColumnParallelLinear",
    "CopyToRegion",
    "Dropout",
    "GatherLast",
    "GatherSequence",
    "LMHead",
    "Layer",
    "LayerNorm",
    "ParallelRMSNorm",
    "Parameter",
    "Piece",
    "Placed",
    "PositionEmbedding",
    "RMSNorm",
    "ReduceFromRegion",
    "RowParallelLinear",
    "ScatterLast",
    "ScatterSequence",
    "TransformerBlock",
    "VocabParallelCrossEntropy",
    "VocabParallelEmbedding",
    "assemble",
    "count_valid",
    "drawing",
    "mean_over_valid",
    "own_slice",
    "padded_vocab",
    "put_together",
    "sum_replica_gradients",
]
