"""A whole language model: tokens to vectors, blocks, a norm, logits, and the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.models.config import ModelConfig
from tpsim.nn import (
    Layer,
    LayerNorm,
    PositionEmbedding,
    RMSNorm,
    TransformerBlock,
    VocabParallelCrossEntropy,
    VocabParallelEmbedding,
)
from tpsim.nn.cached import Cached
from tpsim.nn.dropout import Dropout
from tpsim.nn.overlap import Overlap, lm_head
from tpsim.nn.recompute import Recompute

Array = NDArray[Any]


class LanguageModel(Layer):
    """GPT-2 or Llama, or what lies between, on this rank's shards.

    ::

        tokens ─▶ embedding (+ positions) ─▶ block ─▶ … ─▶ block ─▶ norm ─▶ head ─▶ loss ◀─ targets

    A step is `forward`, `backward`, and `sum_replica_gradients(model)` once. All its collectives but the
    last are the layers' own: 2 all-reduces a block each way, 1 for the embedding forward, 1 for the head
    backward, and 3 small ones for the loss.

    Parameters
    ----------
    config : ModelConfig
    group : Group, optional
        The tensor-parallel group; one rank alone by default.
    sequence_parallel : bool
        Between the regions activations are cut along the sequence, from the embedding to the head.
    keep_gathered : bool
        Under sequence parallelism, keep gathered inputs rather than gather them again in backward.
    overlap : {"none", "dw", "decomposed"}
        What communication is hidden behind GEMMs, in blocks and head; see `nn.overlap`.
    dropout : float
        Rate after the embedding and after each attention and MLP, inside `drawing(…)`; see `nn.masks`.
    attention_dropout : float
        Rate for the attentions' probabilities.
    recompute : {"none", "selective", "full"}
        What blocks run again in backward rather than keep it.
    flash : bool
        Attention in blocks of queries, which keeps no probabilities; see `Attention`.
    ignore_index, label_smoothing, z_loss
        As for `VocabParallelCrossEntropy`.
    fused_loss : bool
        Its sums over ranks in one all-reduce.
    rng : numpy.random.Generator, optional
        In the same state on every rank; `default_rng(0)` by default.
    dtype : dtype

    References
    ----------
    Radford et al. (2019), "Language models are unsupervised multitask learners", section 2.3; Touvron et
    al. (2023), "LLaMA", section 2.2; Shoeybi et al. (2019), "Megatron-LM", section 3, for the cut.

    Examples
    --------
    >>> from tpsim import models
    >>> text = np.frombuffer(b"So far, all bytes are as likely.", np.uint8)[np.newaxis]
    >>> model = LanguageModel(models.get("tiny-gpt"))
    >>> loss = model.forward(text[:, :-1], text[:, 1:])
    >>> bool(abs(loss.mean() - math.log(256)) < 0.2)
    True
    """

    def __init__(
        self,
        config: ModelConfig,
        group: Group | None = None,
        *,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        overlap: Overlap = "none",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        recompute: Recompute = "none",
        flash: bool = False,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        fused_loss: bool = False,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        vocab, hidden, sp = config.vocab, config.hidden, sequence_parallel
        self.config = config
        self.sequence_parallel = sp
        how: dict[str, Any] = {"sequence_parallel": sp, "rng": rng, "dtype": dtype}
        self.embedding = VocabParallelEmbedding(vocab, hidden, group, **how)
        learned = config.positions == "learned"  # rotary ones are the attention's
        self.positions = PositionEmbedding(config.max_seq, hidden, group, **how) if learned else None
        self.dropout = Dropout(dropout, group, cut=sp)
        self.blocks = [
            TransformerBlock(
                hidden,
                config.heads,
                config.ffn,
                group,
                norm=config.norm,
                activation=config.activation,
                kv_heads=config.kv_heads,
                head_size=config.head_size,
                rotary_base=config.rotary_base,
                rotary_scaling=config.rotary_scaling,
                qk_norm=config.qk_norm,
                bias=config.bias,
                eps=config.eps,
                dropout=dropout,
                attention_dropout=attention_dropout,
                recompute=recompute,
                flash=flash,
                keep_gathered=keep_gathered,
                overlap=overlap,
                **how,
            )
            for _ in range(config.layers)
        ]
        make_norm = LayerNorm if config.norm == "layer" else RMSNorm
        self.norm = make_norm(hidden, group, partial=sp, eps=config.eps, dtype=dtype)
        tied = self.embedding.weight if config.tied else None
        make_head = lm_head(overlap)
        self.head = make_head(vocab, hidden, group, weight=tied, keep_gathered=keep_gathered, **how)
        self.loss = VocabParallelCrossEntropy(
            vocab,
            group,
            fused=fused_loss,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
        )
        if config.scaled_residuals:
            for block in self.blocks:
                for last in (block.attention.out, block.mlp.down):
                    last.weight.data *= 1 / math.sqrt(2 * config.layers)

    def logits(self, tokens: Array) -> Array:
        """Integers [b, s] → [b, s, V/t]: the logits of this rank's words, −inf in padding."""
        return self.head.forward(self.norm.forward(self.states(tokens)))

    def states(self, tokens: Array, cached: Sequence[Cached] | None = None) -> Array:
        """Integers [b, s] → [b, s, h], under sequence parallelism [b, s/t, h]: what the last block returns.

        With a cache, one `Cached` a block, the tokens follow on those that are there.
        """
        of_layer: Sequence[Cached | None] = cached or [None] * len(self.blocks)
        x = self.embedding.forward(tokens)
        if self.positions:
            x = self.positions.forward(x, of_layer[0])
        x = self.dropout.forward(x)
        for block, earlier in zip(self.blocks, of_layer, strict=True):
            x = block.forward(x, earlier)
        return x

    def forward(self, tokens: Array, targets: Array) -> Array:  # type: ignore[override]  # two inputs
        """Integers [b, s] and [b, s] → the loss of each token, [b, s]: the same on every rank."""
        return self.loss.forward(self.logits(tokens), targets)

    def backward(self, dloss: Array) -> None:  # type: ignore[override]  # tokens have no gradient
        """[b, s] → nothing. Follow with `sum_replica_gradients`, once a step."""
        dx = self.norm.backward(self.head.backward(self.loss.backward(dloss)))
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx = self.dropout.backward(dx)
        if self.positions:
            dx = self.positions.backward(dx)
        self.embedding.backward(dx)
