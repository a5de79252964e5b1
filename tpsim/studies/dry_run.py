"""One training step on shapes alone: the layers' own code, at any size, with one rank standing for all."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from tpsim.comm import DryMesh
from tpsim.dry import ShapeArray, shapes_only
from tpsim.models import LanguageModel, ModelConfig
from tpsim.nn import mean_over_valid, sum_replica_gradients
from tpsim.nn.masks import drawing
from tpsim.nn.overlap import Overlap
from tpsim.nn.polling import cut_into
from tpsim.nn.recompute import Recompute
from tpsim.trace import Trace
from tpsim.train.buckets import BUCKET_BYTES, GradientBuckets
from tpsim.train.fsdp import FullySharded
from tpsim.train.optimizer import AdamW


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model is run.

    Parameters
    ----------
    config : ModelConfig
    tp, dp : int
        Ranks that share a layer, and replicas of the model (or, for `fsdp`, ranks that share its storage).
    sequence_parallel, keep_gathered, recompute, overlap, fused_loss
        As for `LanguageModel`.
    batch, seq : int
        Sequences of a microbatch on one data-parallel rank, and their length.
    dtype : str
        Of weights and activations.
    dropout, attention_dropout : float
    fsdp : bool
        Whether the dp ranks keep shards of parameters rather than replicas.
    rank : int
        Which tensor-parallel rank stands for all.
    """

    config: ModelConfig
    tp: int = 1
    dp: int = 1
    sequence_parallel: bool = False
    keep_gathered: bool = False
    recompute: Recompute = "none"
    overlap: Overlap = "none"
    fused_loss: bool = False
    batch: int = 1
    seq: int
    dtype: str = "bfloat16"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    fsdp: bool = False
    rank: int = 0


@dataclass(frozen=True)
class DryStep:
    """What a step does, as traces of one rank.

    Attributes
    ----------
    microbatch : Trace
        Forward and backward of one microbatch that is not the first: gradients are added to what is there.
    last : Trace
        The same of the step's last one, where gradients are whole, and data-parallel ranks sum them.
    ending : Trace
        What comes once a step: sums of replicas' gradients, and the optimizer.
    gathered : int
        Bytes of weights that are whole for a moment under FSDP, at most.
    """

    microbatch: Trace
    last: Trace
    ending: Trace
    gathered: int = 0


def dry_step(plan: Plan) -> DryStep:
    """Run a step of `plan` on shapes."""
    mesh = DryMesh(plan.tp, plan.dp, plan.rank)
    whole = _model(plan, mesh)
    with shapes_only():
        model = FullySharded(whole, mesh.dp) if plan.fsdp else whole
    for parameter in model.parameters().values():
        parameter.grad = parameter.no_grad()
    microbatch = last = _microbatch(plan, model)
    if isinstance(model, LanguageModel) and mesh.dp.size > 1:
        last = _microbatch(plan, model, GradientBuckets(model, mesh.dp, BUCKET_BYTES))
    optimizer = AdamW(model)
    with Trace(kernels=True) as ending:
        sum_replica_gradients(model)
        optimizer.step(1e-4)
        optimizer.record_state()
    gathered = model.peak_whole_bytes if isinstance(model, FullySharded) else 0
    return DryStep(microbatch, last, ending, gathered)


def dry_block(plan: Plan, *, backward: bool = True) -> Trace:
    """Run forward, and backward, of one of the model's blocks alone."""
    mesh = DryMesh(plan.tp, plan.dp, plan.rank)
    block = _model(replace(plan, config=replace(plan.config, layers=1)), mesh).blocks[0]
    for parameter in block.parameters().values():
        parameter.grad = parameter.no_grad()
    seq = plan.seq // plan.tp if plan.sequence_parallel else plan.seq
    x: Any = ShapeArray((plan.batch, seq, plan.config.hidden), plan.dtype)
    with Trace(kernels=True) as trace, drawing(0, 0, range(plan.batch)), cut_into(1):
        y = block.forward(x)
        if backward:
            block.backward(y)
        block.record_parameters()
    return trace


def _model(plan: Plan, mesh: DryMesh) -> LanguageModel:
    with shapes_only():
        return LanguageModel(
            plan.config,
            mesh.tp,
            sequence_parallel=plan.sequence_parallel,
            keep_gathered=plan.keep_gathered,
            recompute=plan.recompute,
            overlap=plan.overlap,
            fused_loss=plan.fused_loss,
            dropout=plan.dropout,
            attention_dropout=plan.attention_dropout,
            dtype=plan.dtype,
        )


def _microbatch(
    plan: Plan, model: LanguageModel | FullySharded, buckets: GradientBuckets | None = None
) -> Trace:
    tokens: Any = ShapeArray((plan.batch, plan.seq), "int64")
    while_backward = buckets.filling() if buckets else nullcontext()
    with Trace(kernels=True) as trace, drawing(0, 0, range(plan.batch)), cut_into(1):
        loss = model.forward(tokens, tokens)
        _, dloss = mean_over_valid(loss, tokens, plan.batch * plan.seq)
        with while_backward:
            model.backward(dloss)
        if buckets:
            buckets.finish()
        model.record_parameters()
    return trace
