"""Shapes of published curves: what is lost to more ranks, and which of two ways is faster.

Where a paper's setting is not in its table, it is stated here.

References
----------
Shoeybi et al. (2019), "Megatron-LM": section 5.1 (weak scaling on V100). Narayanan et al. (2021), "Efficient
large-scale language model training on GPU clusters using Megatron-LM": table 2 (against ZeRO-3, on A100).
Dubey et al. (2024), "The Llama 3 herd of models": table 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from tpsim.cost.hardware import Hardware, load
from tpsim.cost.stacks import EAGER
from tpsim.cost.work import Collective
from tpsim.models import get
from tpsim.models.config import gpt
from tpsim.studies.validate.comparison import Comparison, published
from tpsim.studies.validate.pipeline import Job, flops, iteration, stage

# --- Megatron-LM's weak scaling -----------------------------------------------------------------------------


def weak_scaling() -> Iterator[Comparison]:
    """Compare efficiency, in percent of one device's FLOPs a second, as model and ranks grow together.

    8 sequences of 1024 tokens, 51,200 words, everything computed again in backward, nothing overlapped; on a
    DGX-2, whose 16 devices share one node.
    """
    hardware = load("v100")
    alone = 0.0
    for row in published()["megatron2019_weak_scaling_measured_v100"]:
        config = gpt(
            f"{row['params_b']}B", row["layers"], row["hidden"], row["heads"], vocab=51200, max_seq=1024
        )
        job = Job(config=config, tp=row["tp"], microbatch=8, seq=1024, recompute="full", overlap="none")
        speed = flops(job, with_recompute=False) / iteration(job, hardware).total / job.tp
        alone = alone or speed
        yield Comparison(
            "2019: weak scaling", f"{config.name}, t={job.tp}", row["efficiency"], 100 * speed / alone, "%"
        )


# --- ZeRO-3 against tensor and pipeline parallelism ---------------------------------------------------------


class Rivals(NamedTuple):
    """One row of the table: TFLOPs a second and device of both, ours and theirs."""

    params_b: int
    devices: int
    zero3: Comparison
    tp_pp: Comparison


_MODELS = {
    # Billions of parameters: layers, hidden, heads; stages of a pipeline, and its batch
    175: (96, 12288, 96, 12, 1536),
    530: (105, 20480, 128, 35, 2240),
}


def zero3_against_tp_pp() -> Iterator[Rivals]:
    """Compare FLOPs a second and device, of ZeRO-3 and of tensor with pipeline parallelism.

    The latter has t = 8, stages and a batch as in `_MODELS`, microbatches of one sequence, and no
    interleaving. ZeRO-3 has no model parallelism: each device has 4, 2 and 1 sequences as devices increase,
    all of them one microbatch. Both compute everything again in backward, which their FLOPs count, and
    overlap nothing.
    """
    hardware = load("a100")
    sequences = dict.fromkeys(_MODELS, 4)
    for row in published()["narayanan2021_zero3_vs_tp_pp_measured_tflops_per_gpu"]:
        size = row["params_b"]
        layers, hidden, heads, stages, batch = _MODELS[size]
        common: dict[str, Any] = {
            "config": gpt(f"{size}B", layers, hidden, heads, vocab=51200, max_seq=2048),
            "seq": 2048,
            "recompute": "full",
            "overlap": "none",
        }
        devices = row.get("gpus") or row["gpus_zero3"]
        pipelines = (row.get("gpus") or row["gpus_tp_pp"]) // (8 * stages)
        zero = Job(tp=1, dp=devices, microbatch=sequences[size], **common)
        pipe = Job(tp=8, pp=stages, dp=pipelines, microbatches=batch // pipelines, **common)
        sequences[size] //= 2
        yield Rivals(
            size,
            devices,
            _speed(f"ZeRO-3, {size}B", row["zero3"], zero, zero3_seconds(zero, hardware)),
            _speed(f"TP × PP, {size}B", row["tp_pp"], pipe, iteration(pipe, hardware).total),
        )


def zero3() -> Iterator[Comparison]:
    """Compare the same, one after the other."""
    for row in zero3_against_tp_pp():
        yield row.zero3
        yield row.tp_pp


def zero3_seconds(job: Job, hardware: Hardware) -> float:
    """Return what an iteration takes where all devices keep a shard of every parameter.

    Each block, and the two ends, are gathered in 16 bits before forward and again before backward, and their
    gradients summed and scattered: 3 × parameters a microbatch, none of it hidden behind arithmetic. Devices
    update their own shard.

    Everything passes each device's own port of the network: a flat ring, that doesn't know nodes. With rings
    that share a node's eight ports it would be up to eight times as fast, and ZeRO-3 ahead in the first row
    of each model; the published times leave about one port's rate to what is not arithmetic.
    """
    alone = iteration(replace(job, dp=1), hardware)
    sizes = stage(job).parameters
    units = [sum(sizes["block"])] * job.config.layers + [sum(sizes["front"] + sizes["back"])]
    moving = sum(
        hardware.collective.seconds(Collective(operation, 2 * size, job.devices), node=1, graph=False)
        for size in units
        for operation in ("all_gather", "all_gather", "reduce_scatter")
    )
    return alone.total - alone.once + moving + alone.once / job.devices


def _speed(what: str, theirs: float, job: Job, seconds: float) -> Comparison:
    ours = flops(job, with_recompute=True) / seconds / job.devices / 1e12
    return Comparison(
        "2021: ZeRO-3 against TP × PP", f"{what}, {job.devices} devices", theirs, ours, "TFLOPs/s a device"
    )


# --- Llama 3 ------------------------------------------------------------------------------------------------


def llama3() -> Iterator[Comparison]:
    """Compare FLOPs a second and device of Llama 3 405B.

    A batch of 2048 sequences, so that a pipeline has 32, or 16 of them; sequence parallelism, chunks of one
    layer, nothing computed again. The sums over data-parallel ranks are not hidden here; theirs were.
    """
    hardware = load("h100")
    for row in published()["llama3_405b"]:
        job = Job(
            config=get("llama3-405b"),
            tp=row["tp"],
            pp=row["pp"],
            dp=row["dp"],
            interleave=8,
            microbatches=2048 // row["dp"],
            seq=row["seq"],
            recompute="selective",  # a fused core keeps no probabilities
            sequence_parallel=True,
            dropout=0.0,
            dtype="bfloat16",
            stack=EAGER,
        )
        ours = flops(job, with_recompute=False) / iteration(job, hardware).total / job.devices / 1e12
        yield Comparison(
            "2024: Llama 3 405B", f"{job.devices} devices", row["tflops_per_gpu"], ours, "TFLOPs/s a device"
        )
