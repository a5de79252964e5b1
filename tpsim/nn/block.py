"""The transformer block: two regions, 2 + 2 all-reduces."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import RotaryScaling
from tpsim.nn.attention import Attention
from tpsim.nn.cached import Cached
from tpsim.nn.dropout import Dropout
from tpsim.nn.layer import Layer
from tpsim.nn.mlp import MLP, Activation
from tpsim.nn.norm import LayerNorm, RMSNorm
from tpsim.nn.overlap import Overlap
from tpsim.nn.recompute import Recompute, forgetting, running_again

Array = NDArray[Any]


class TransformerBlock(Layer):
    """x + attention(norm(x)), then + mlp(norm(·)): the pre-norm block of GPT-2 and Llama.

    Parameters
    ----------
    hidden, heads, ffn : int
        Widths and number of query heads.
    group : Group, optional
        The tensor-parallel group; one rank alone by default.
    norm : {"layer", "rms"}
        Which normalisation.
    activation, kv_heads, head_size, causal, rotary_base, rotary_scaling, qk_norm, bias, eps
        As for `MLP`, `Attention` and the norms.
    dropout : float
        Rate at which entries of the attention's and the MLP's results are dropped before they are added
        to x, inside `drawing(…)`; see `masks`.
    attention_dropout : float
        Rate for the attention's probabilities.
    recompute : {"none", "selective", "full"}
        What runs again in backward rather than being kept: the attention's core, or all of the block,
        with its two forward all-reduces. The gradients are the same bits; see `recompute`.
    flash : bool
        Attention in blocks of queries, which keeps no probabilities; see `Attention`.
    sequence_parallel : bool
        x and y are cut along the sequence, [b, s/t, h]; see `borders`.
    keep_gathered : bool
        Under sequence parallelism, keep gathered inputs rather than gather them again in backward.
    overlap : {"none", "dw", "decomposed"}
        What communication is hidden behind GEMMs; see `overlap`.
    rng : numpy.random.Generator, optional
        In the same state on every rank; `default_rng(0)` by default.
    dtype : dtype
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        ffn: int,
        group: Group | None = None,
        *,
        norm: Literal["layer", "rms"] = "layer",
        activation: Activation = "gelu_tanh",
        kv_heads: int | None = None,
        head_size: int | None = None,
        causal: bool = True,
        rotary_base: float | None = None,
        rotary_scaling: RotaryScaling | None = None,
        qk_norm: bool = False,
        bias: bool = True,
        eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        recompute: Recompute = "none",
        flash: bool = False,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        overlap: Overlap = "none",
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        if norm not in ("layer", "rms"):
            raise ValueError(f"TransformerBlock: norm {norm!r} is not known; pick 'layer' or 'rms'")
        if recompute not in ("none", "selective", "full"):
            raise ValueError(
                f"TransformerBlock: recompute {recompute!r} is not known; pick 'none', 'selective' or 'full'"
            )
        self.recompute = recompute
        make_norm = LayerNorm if norm == "layer" else RMSNorm
        self.norm1 = make_norm(hidden, group, partial=sequence_parallel, eps=eps, dtype=dtype)
        self.attention = Attention(
            hidden,
            heads,
            group,
            kv_heads=kv_heads,
            head_size=head_size,
            causal=causal,
            rotary_base=rotary_base,
            rotary_scaling=rotary_scaling,
            qk_norm=qk_norm,
            bias=bias,
            sequence_parallel=sequence_parallel,
            keep_gathered=keep_gathered,
            dropout=attention_dropout,
            recompute=recompute == "selective",
            flash=flash,
            overlap=overlap,
            eps=eps,
            rng=rng,
            dtype=dtype,
        )
        self.dropout1 = Dropout(dropout, group, cut=sequence_parallel)
        self.norm2 = make_norm(hidden, group, partial=sequence_parallel, eps=eps, dtype=dtype)
        self.mlp = MLP(
            hidden,
            ffn,
            group,
            activation=activation,
            bias=bias,
            sequence_parallel=sequence_parallel,
            keep_gathered=keep_gathered,
            overlap=overlap,
            rng=rng,
            dtype=dtype,
        )
        self.dropout2 = Dropout(dropout, group, cut=sequence_parallel)

    def forward(self, x: Array, cached: Cached | None = None) -> Array:
        """[b, s, h] → [b, s, h]; under sequence parallelism [b, s/t, h]. `cached`: as for `Attention`."""
        if self.recompute != "full" or cached:
            return self._run(x, cached)
        self.save(x=x)
        with forgetting():
            return self._run(x)

    def _run(self, x: Array, cached: Cached | None = None) -> Array:
        # Sums of the residual stream are in the dtype of storage: each is rounded, as in Megatron-LM, unless
        # one asks for fp32_residual_connection there.
        x = x + self.dropout1.forward(self.attention.forward(self.norm1.forward(x), cached))
        return x + self.dropout2.forward(self.mlp.forward(self.norm2.forward(x)))

    def backward(self, dy: Array) -> Array:
        """Same shapes. Follow with `sum_replica_gradients`, once a step."""
        if self.recompute == "full":
            with running_again():
                self._run(self.take("x"))
        dy = dy + self.norm2.backward(self.mlp.backward(self.dropout2.backward(dy)))
        return dy + self.norm1.backward(self.attention.backward(self.dropout1.backward(dy)))
