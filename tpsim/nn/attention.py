"""Multi-head attention cut by heads: each rank computes its own heads whole, one all-reduce each way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.comm import Group, solo
from tpsim.functional import (
    RotaryScaling,
    attention_output,
    attention_output_grad,
    attention_probabilities,
    attention_probabilities_grad,
    flash_attention,
    flash_attention_grad,
    rotary,
    rotary_grad,
    rotary_tables,
)
from tpsim.nn.cached import Cached
from tpsim.nn.checks import check_divides, check_sizes
from tpsim.nn.dropout import Dropout
from tpsim.nn.layer import Layer
from tpsim.nn.norm import RMSNorm
from tpsim.nn.overlap import Overlap, column_parallel, row_parallel
from tpsim.nn.parameter import Piece, cut
from tpsim.nn.recompute import forgetting, running_again

Array = NDArray[Any]


class Attention(Layer):
    """softmax(Q Kᵀ/√d) V for each head, with Q, K, V from one fused column-parallel projection.

    The fused weight is [Q | K | V]; each of the three is cut by heads. With fewer key-value heads than
    ranks, t/g neighbouring ranks hold the same head, and sum their gradients of it.

    Parameters
    ----------
    hidden : int
        Width of x.
    heads : int
        Query heads; divisible by the ranks.
    group, sequence_parallel, keep_gathered, bias, rng, dtype
        As for `ColumnParallelLinear`.
    kv_heads : int, optional
        Key-value heads (grouped-query attention; 1 is multi-query); `heads` by default.
    head_size : int, optional
        d; `hidden // heads` by default.
    causal : bool
        Whether a position sees only itself and those before.
    rotary_base : float, optional
        Turn on rotary position embedding, with this base.
    rotary_scaling : RotaryScaling, optional
        Llama 3.1's, for long contexts.
    qk_norm : bool
        RMSNorm over d for queries and keys, before rotary.
    dropout : float
        Rate at which probabilities are dropped in training.
    recompute : bool
        Run the core, softmax(Q Kᵀ/√d) V with its dropout, again in backward rather than keep its
        probabilities and masks: selective recompute.
    flash : bool
        Compute the core in blocks of queries, as FlashAttention does: probabilities are not kept, and where
        the mask hides them not computed. Without dropout only.
    overlap : {"none", "dw", "decomposed"}
        What communication is hidden behind GEMMs; see `overlap`.
    eps : float
        For `qk_norm`.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3, figure 3b; Ainslie et al. (2023), "GQA"; Su et al.
    (2021), "RoFormer", equation 34; Henry et al. (2020), "Query-key normalization for transformers";
    Korthikanti et al. (2022), "Reducing activation recomputation", section 5, for `recompute`; Dao et al.
    (2022), "FlashAttention", for `flash`.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        group: Group | None = None,
        *,
        kv_heads: int | None = None,
        head_size: int | None = None,
        causal: bool = True,
        rotary_base: float | None = None,
        rotary_scaling: RotaryScaling | None = None,
        qk_norm: bool = False,
        bias: bool = True,
        sequence_parallel: bool = False,
        keep_gathered: bool = False,
        dropout: float = 0.0,
        recompute: bool = False,
        flash: bool = False,
        overlap: Overlap = "none",
        eps: float = 1e-5,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        group = group or solo()
        rng = rng or np.random.default_rng(0)
        kv_heads = heads if kv_heads is None else kv_heads
        check_sizes("Attention", hidden=hidden, heads=heads, kv_heads=kv_heads, head_size=head_size)
        if head_size is None and hidden % heads:
            raise ValueError(
                f"Attention: hidden {hidden} is not divisible by {heads} heads; pick a multiple of {heads}, "
                "or pass head_size"
            )
        if heads % kv_heads:
            raise ValueError(
                f"Attention: {heads} heads can't share {kv_heads} kv heads evenly; pick kv_heads that "
                f"divides {heads}"
            )
        if flash and dropout:
            raise ValueError(
                f"Attention: dropout {dropout} drops probabilities, and flash attention has none at hand; "
                "pick dropout 0, or flash=False"
            )
        check_divides("Attention", "heads", heads, group, pad=False)
        size = hidden // heads if head_size is None else head_size
        kv = kv_piece(kv_heads, size, group)
        self.head_size = size
        self.scale = 1 / math.sqrt(size)
        self.heads = heads // group.size  # here
        self.kv_heads = kv.local // size  # here
        self.causal = causal
        self.rotary_base = rotary_base
        self.rotary_scaling = rotary_scaling
        self.recompute = recompute
        self.flash = flash
        self.qkv = column_parallel(overlap)(
            hidden,
            (heads + 2 * kv_heads) * size,
            group,
            bias=bias,
            sequence_parallel=sequence_parallel,
            keep_gathered=keep_gathered,
            pieces=[cut(heads * size, group), kv, kv],
            rng=rng,
            dtype=dtype,
        )
        # One weight for all heads, and each rank sees only its own heads: gradients are shares.
        self.q_norm = RMSNorm(size, group, partial=True, eps=eps, dtype=dtype) if qk_norm else None
        self.k_norm = RMSNorm(size, group, partial=True, eps=eps, dtype=dtype) if qk_norm else None
        self.dropout = Dropout(dropout, group, cut=True)
        self.out = row_parallel(overlap)(
            heads * size, hidden, group, bias=bias, sequence_parallel=sequence_parallel, rng=rng, dtype=dtype
        )

    def forward(self, x: Array, cached: Cached | None = None) -> Array:
        """[b, s, h] → [b, s, h]. With a cache, x follows on what is there, and nothing is for backward."""
        q, k, v = self._cut_heads(self.qkv.forward(x))
        if self.q_norm and self.k_norm:
            q, k = self.q_norm.forward(q), self.k_norm.forward(k)
        if self.rotary_base is not None:
            tables = cached.tables if cached else self._tables(q)
            q, k = rotary(q, *tables), rotary(k, *tables)
        if cached:
            return self.out.forward(_join_heads(cached.attend(q, k, v, self.scale)))
        self.save(q=q, k=k, v=v)
        with forgetting(self.recompute):
            out = self._attend(q, k, v)
        return self.out.forward(_join_heads(out))

    def backward(self, dy: Array) -> Array:
        """[b, s, h] → [b, s, h]."""
        dout = _split_heads(self.out.backward(dy), self.head_size)
        q, k, v = (self.take(name) for name in ("q", "k", "v"))
        if self.recompute:
            with running_again():
                self._attend(q, k, v)
        dq, dk, dv = self._attend_grad(q, k, v, dout)
        if self.rotary_base is not None:
            tables = self._tables(q)
            dq, dk = rotary_grad(dq, *tables), rotary_grad(dk, *tables)
        if self.q_norm and self.k_norm:
            dq, dk = self.q_norm.backward(dq), self.k_norm.backward(dk)
        return self.qkv.backward(np.concatenate([_join_heads(d) for d in (dq, dk, dv)], axis=-1))

    def _tables(self, q: Array) -> tuple[Array, Array]:
        """What rotary turns by, at positions from 0."""
        assert self.rotary_base is not None
        return rotary_tables(q.shape[-2], self.head_size, self.rotary_base, q, self.rotary_scaling)

    def _attend(self, q: Array, k: Array, v: Array) -> Array:
        """The core. Without dropout, `dropped` is the probabilities themselves, and costs nothing."""
        if self.flash:
            out, maximum, total = flash_attention(q, k, v, causal=self.causal, scale=self.scale)
            self.save_statistics(maximum=maximum, total=total)
            return out
        probabilities = attention_probabilities(q, k, causal=self.causal, scale=self.scale)
        self.save(probabilities=probabilities)
        dropped = self.dropout.forward(probabilities)
        self.save(dropped=dropped)
        return attention_output(dropped, v)

    def _attend_grad(self, q: Array, k: Array, v: Array, dout: Array) -> tuple[Array, Array, Array]:
        if self.flash:
            rows = (self.take("maximum"), self.take("total"))
            return flash_attention_grad(q, k, v, *rows, dout, causal=self.causal, scale=self.scale)
        ddropped, dv = attention_output_grad(self.take("dropped"), v, dout)
        dp = self.dropout.backward(ddropped)
        p = self.take("probabilities")
        return *attention_probabilities_grad(q, k, p, dp, scale=self.scale, out=dp), dv

    def _cut_heads(self, qkv: Array) -> tuple[Array, Array, Array]:
        """[b, s, (a + 2g)·d] → [b, a, s, d], [b, g, s, d], [b, g, s, d] with this rank's a and g."""
        ends = [self.heads * self.head_size, (self.heads + self.kv_heads) * self.head_size]
        # Copies, so that keeping q, k and v for backward does not keep the fused array besides.
        q, k, v = (_split_heads(part, self.head_size).copy() for part in np.split(qkv, ends, axis=-1))
        return q, k, v


def kv_piece(kv_heads: int, head_size: int, group: Group) -> Piece:
    """Return how keys (or values) are cut: g/t heads a rank, or one head for each t/g neighbouring ranks.

    Raises
    ------
    ValueError
        If neither of g and t divides the other.
    """
    size, ranks = kv_heads * head_size, group.size
    if kv_heads % ranks == 0:
        return cut(size, group)
    if ranks % kv_heads == 0:
        copies = ranks // kv_heads
        return Piece(size, kv_heads, group.rank // copies, replicas=group.neighbours(copies), partial=True)
    raise ValueError(
        f"Attention: {kv_heads} kv heads can't be shared by {ranks} ranks; pick ranks that divide "
        f"{kv_heads}, or a multiple of it"
    )


def _split_heads(x: Array, head_size: int) -> Array:
    """[b, s, a·d] → [b, a, s, d]."""
    batch, seq, width = x.shape
    return x.reshape(batch, seq, width // head_size, head_size).transpose(0, 2, 1, 3)


def _join_heads(x: Array) -> Array:
    """[b, a, s, d] → [b, s, a·d]."""
    batch, heads, seq, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, seq, heads * size)
