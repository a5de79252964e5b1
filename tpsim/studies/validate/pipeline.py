"""What an iteration takes on a pipeline of tensor-parallel stages, from a dry run of one block and both ends.

Pipelines are no part of tpsim's layers, but published times are of models that need one. So here it is a
factor. With m microbatches, p stages, and v chunks of the model on each of them::

    T = blocks + front + back + (m - 1) · slowest + (p - 1)/v · blocks + once

where blocks is what a stage's L/p blocks take for a microbatch, both passes, and sending results on; front
(embedding) and back (head and loss) come on top at the first and the last stage, one of which is the slowest;
once is what an iteration does once.

References
----------
Narayanan et al. (2021), "Efficient large-scale language model training on GPU clusters using Megatron-LM":
section 2.2 (schedules, bubble), 4.1 (scatter and gather between stages).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from tpsim.cost.hardware import Hardware
from tpsim.cost.stacks import MEGATRON, Stack, launches
from tpsim.cost.timeline import steady
from tpsim.cost.work import Collective, Launch, Pointwise
from tpsim.models import ModelConfig
from tpsim.nn.overlap import Overlap
from tpsim.nn.polling import cut_into
from tpsim.nn.recompute import Recompute
from tpsim.studies.dry_run import Plan, dry_block, dry_step

ONCE = {
    "unscale gradients, look for infinities": 4 + 4,
    "their norm": 4,
    "clip them": 4 + 4,
    "Adam: read gradient, weight and two moments, write the last three": 7 * 4,
    "copy weights to 16 bits": 4 + 2,
    "zero gradients": 4,
}
"""Bytes a parameter that Megatron-LM reads and writes once an iteration, in float32 but for the copy."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training run.

    Attributes
    ----------
    config : ModelConfig
    tp, pp, dp : int
        Sizes of a tensor-parallel group and of a pipeline, and number of pipelines.
    interleave : int
        v, chunks of layers that a stage has.
    microbatch, microbatches, seq : int
        Sequences of one, how many a pipeline has an iteration, and positions.
    recompute, sequence_parallel, overlap, dropout, dtype
        As of a `Plan`; the dropout of attention is the same.
    stack : Stack
    """

    config: ModelConfig
    tp: int
    pp: int = 1
    dp: int = 1
    interleave: int = 1
    microbatch: int = 1
    microbatches: int = 1
    seq: int
    recompute: Recompute = "none"
    sequence_parallel: bool = False
    overlap: Overlap = "dw"
    dropout: float = 0.1
    dtype: str = "float16"
    stack: Stack = MEGATRON

    @property
    def layers(self) -> float:
        """Of a stage, on average."""
        return self.config.layers / self.pp

    @property
    def devices(self) -> int:
        """In all."""
        return self.tp * self.pp * self.dp


@dataclass(frozen=True)
class Iteration:
    """What an iteration takes, in seconds.

    Attributes
    ----------
    block : float
        One block and microbatch, forward and backward.
    front, back : float
        What a microbatch takes besides on the first stage, and on the last.
    sends : float
        What a stage sends on for a microbatch.
    bubble : float
        The pipeline's filling and draining.
    once : float
        Optimizer, and sums over data-parallel ranks.
    total : float
    """

    block: float
    front: float
    back: float
    sends: float
    bubble: float
    once: float
    total: float


@dataclass(frozen=True)
class Stage:
    """What a dry run of one block, and of both ends of the model, says about each of the three.

    Attributes
    ----------
    launches : list of Launch
        Of a microbatch, forward and backward.
    block : list of Launch
        Of the block alone.
    parameters : dict
        By part ("block", "front", "back"), the number of elements of each tensor on one rank.
    flops, again : dict
        By part, a rank's FLOPs of matrix products, and of those the ones that compute something again.
    """

    launches: list[Launch]
    block: list[Launch]
    parameters: dict[str, list[int]]
    flops: dict[str, int]
    again: dict[str, int]


@lru_cache
def stage(job: Job) -> Stage:
    """Run a microbatch of a job on shapes: one block and both ends."""
    plan = Plan(
        config=replace(job.config, layers=1),
        tp=job.tp,
        sequence_parallel=job.sequence_parallel,
        recompute=job.recompute,
        overlap=job.overlap,
        batch=job.microbatch,
        seq=job.seq,
        dtype=job.dtype,
        dropout=job.dropout,
        attention_dropout=job.dropout,
    )
    with cut_into(1):  # a GPU's messages need nobody to look after them
        trace, block = dry_step(plan).microbatch, dry_block(plan)
    parameters: dict[str, list[int]] = {"block": [], "front": [], "back": []}
    for parameter in trace.parameters:
        parameters[part(parameter.name)].append(math.prod(parameter.shape))
    flops, again = Counter[str](), Counter[str]()
    for kernel in trace.kernels:
        flops[part(kernel.layer)] += kernel.matmul_flops
        if "recompute" in kernel.layer.split("."):
            again[part(kernel.layer)] += kernel.matmul_flops
    return Stage(launches(trace, job.stack), launches(block, job.stack), parameters, dict(flops), dict(again))


def part(layer: str) -> str:
    """Return which part of the model a layer belongs to: "block", "front" or "back"."""
    first = layer.partition(".")[0]
    front = dict.fromkeys(("embedding", "positions", "dropout"), "front")
    return {"blocks": "block", **front}.get(first, "back")


def flops(job: Job, *, with_recompute: bool) -> int:
    """Return the FLOPs of an iteration's matrix products, on all devices."""
    run = stage(job)

    def of(name: str) -> int:
        return run.flops.get(name, 0) - (0 if with_recompute else run.again.get(name, 0))

    microbatch = job.config.layers * of("block") + of("front") + of("back")
    return job.tp * job.dp * job.microbatches * microbatch


def iteration(job: Job, hardware: Hardware) -> Iteration:
    """Return what an iteration takes."""
    run = stage(job)
    heat = steady(run.block, hardware).heat  # blocks are nearly all that a device does
    seconds = steady(run.launches, hardware, heat=heat).by(lambda launch: part(launch.layer))
    block, front, back = (seconds.get(name, 0.0) for name in ("block", "front", "back"))
    sends = _sends(job, hardware) if job.pp > 1 else 0.0

    blocks = job.layers * block + sends
    slowest = blocks + (max(front, back) if job.pp > 1 else front + back)
    bubble = (job.pp - 1) / job.interleave * blocks
    once = _once(job, hardware)
    total = blocks + front + back + (job.microbatches - 1) * slowest + bubble + once
    return Iteration(block, front, back, sends, bubble, once, total)


def _sends(job: Job, hardware: Hardware) -> float:
    """Price what a stage sends on for a microbatch: each chunk's result forward, its gradient backward.

    Each tensor-parallel rank sends a t-th to its peer of the next node; there they gather it, unless under
    sequence parallelism a t-th is all that each of them needs.
    """
    nbytes = job.microbatch * job.seq * job.config.hidden * 2
    once = hardware.seconds(Collective("send", nbytes // job.tp, job.pp * job.tp))
    if not job.sequence_parallel:
        once += hardware.seconds(Collective("all_gather", nbytes, job.tp))
    return 2 * job.interleave * once


def _once(job: Job, hardware: Hardware) -> float:
    """Price what comes once an iteration, on the first stage: it has the most parameters."""
    sizes = stage(job).parameters
    parameters = round(job.layers * sum(sizes["block"])) + sum(sizes["front"])
    if job.pp == 1:
        parameters += sum(sizes["back"])
    kernels = (Pointwise("adamw", 1, parameters, n * parameters, "float32") for n in ONCE.values())
    seconds = sum(hardware.seconds(kernel) for kernel in kernels)
    if job.dp > 1:
        # Ranks of a data-parallel group are on as many nodes, each with a port of its own.
        work = Collective("all_reduce", 4 * parameters, job.dp)
        seconds += hardware.collective.seconds(work, node=1, graph=False)
    return seconds
