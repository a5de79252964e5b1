"""What a rank's memory holds: weights, gradients, optimizer state, and what is kept for backward."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from tpsim.trace import SavedTensor, Trace


@dataclass(frozen=True)
class Mix:
    """Bytes a parameter, in each of its roles.

    Parameters
    ----------
    weights, gradients, master, moments : int
        `moments` are those of Adam, both together.
    """

    weights: int
    gradients: int
    master: int
    moments: int

    @property
    def total(self) -> int:
        """Bytes a parameter in all."""
        return self.weights + self.gradients + self.master + self.moments


MIXES = {
    # Megatron-LM: fp16 or bf16 weights, gradients summed in fp32, fp32 masters and moments.
    "megatron": Mix(2, 4, 4, 8),
    # ZeRO (Rajbhandari et al. 2020, section 3.1), DeepSpeed: gradients in 2 bytes as well.
    "zero": Mix(2, 2, 4, 8),
    # bf16 weights that take the steps themselves.
    "bfloat16": Mix(2, 2, 0, 4),
    "float32": Mix(4, 4, 0, 8),
    "inference": Mix(2, 0, 0, 0),
}
"""Known mixes of precision by name, with AdamW: 18, 16, 8, 16 and 2 bytes a parameter."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank.

    Attributes
    ----------
    weights, gradients, optimizer : int
    activations : int
        What the papers count, at the moment when all that is kept for backward peaks.
    statistics : int
        Norm statistics and the like, at that moment.
    recomputed : int
        What a rerun keeps for a moment, at that moment.
    working : int
        The largest result of a single kernel: what is there for a moment besides.
    gathered : int
        Weights that are whole for a moment, under FSDP.
    kv_cache : int
        Of inference.
    by_name : dict
        Bytes of activations by "layer.name", blocks folded into one ("blocks.*.mlp.u").
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    statistics: int = 0
    recomputed: int = 0
    working: int = 0
    gathered: int = 0
    kv_cache: int = 0
    by_name: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of it."""
        held = self.weights + self.gradients + self.optimizer + self.gathered + self.kv_cache
        return held + self.activations + self.statistics + self.recomputed + self.working


def memory(trace: Trace, mix: Mix, *, fused_attention: bool = False, in_flight: int = 1) -> Memory:
    """Return what a recorded step needs.

    Parameters
    ----------
    trace : Trace
        Of forward and backward of one microbatch, with its parameters.
    mix : Mix
        Of precision; the parameters' own dtypes don't count.
    fused_attention : bool
        Leave out what an attention kernel that keeps no probabilities would not keep (see `core`).
    in_flight : int
        Microbatches whose forward is done and whose backward is not: more than one in a pipeline.
    """
    elements = sum(math.prod(parameter.shape) for parameter in trace.parameters)
    saved = [tensor for tensor in trace.saved if not (fused_attention and core(tensor))]
    at_peak = alive_at_peak(saved)
    forward = sum(tensor.nbytes for tensor in saved if tensor.kind != "recomputed")
    by_kind = {kind: _bytes(t for t in at_peak if t.kind == kind) for kind in ("statistic", "recomputed")}
    by_name: dict[str, int] = {}
    for tensor in at_peak:
        if tensor.kind == "activation":
            name = folded(f"{tensor.layer}.{tensor.name}")
            by_name[name] = by_name.get(name, 0) + tensor.nbytes
    return Memory(
        weights=elements * mix.weights,
        gradients=elements * mix.gradients,
        optimizer=elements * (mix.master + mix.moments),
        activations=sum(by_name.values()) + (in_flight - 1) * forward,
        statistics=by_kind["statistic"],
        recomputed=by_kind["recomputed"],
        working=max((kernel.bytes_written for kernel in trace.kernels), default=0),
        by_name=by_name,
    )


def core(tensor: SavedTensor) -> bool:
    """Whether it is of the attention core's inside: probabilities, their mask, and what is left of them."""
    path = tensor.layer.split(".")
    inside = tensor.name in ("probabilities", "dropped") and "attention" in path
    return inside or path[-2:] == ["attention", "dropout"]


def alive_at_peak(saved: Iterable[SavedTensor]) -> list[SavedTensor]:
    """Return the tensors that are kept at the moment when they weigh most."""
    saved = list(saved)
    changes = [(tensor.born, tensor.nbytes) for tensor in saved]
    changes += [(tensor.died, -tensor.nbytes) for tensor in saved if tensor.died is not None]
    kept = most = 0
    moment = 0
    for order, change in sorted(changes):
        kept += change
        if kept > most:
            most, moment = kept, order
    return [t for t in saved if t.born <= moment and (t.died is None or t.died > moment)]


def folded(path: str) -> str:
    """Return a path with every number in it as "*": the same for all blocks."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def _bytes(tensors: Iterable[SavedTensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
