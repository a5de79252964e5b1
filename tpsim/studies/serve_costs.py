"""What a decode step and a prefill cost on given hardware: time, what bounds it, and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tpsim.cost.gemm import itemsize
from tpsim.cost.hardware import Hardware
from tpsim.cost.memory import Memory
from tpsim.cost.plan import Host, matmul_seconds, memory_seconds
from tpsim.cost.stacks import SERVING, Stack
from tpsim.cost.timeline import Timeline, kind, steady
from tpsim.cost.work import Attention, Collective, Gemm
from tpsim.models import ModelConfig
from tpsim.models.kv_cache import kv_cache_bytes
from tpsim.studies.serve_run import Pass, run_pass

# --- decode -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decode:
    """What a decode step costs: one more token for each sequence of a batch. Figures of one rank.

    Attributes
    ----------
    tp, batch, context : int
        Ranks, sequences, and the positions that each of these sees, its new one among them.
    step : float
        Seconds: the time per token.
    block : float
        Of those, the mean of a block.
    parts : dict
        Of those, what is spent on reading "weights" and the "kv_cache" at the memory's speed, on "flops"
        that take longer than that, on "all_reduce" (all communication), and on "launches": all the rest,
        which is how long kernels take however small they are.
    bound : str
        The largest of the parts.
    memory : Memory
    fits : bool
        Whether that is no more than the device has.
    tokens_per_second : float
        Of all ranks together.
    by_kind : dict
        Seconds by kind of kernel and collective.
    """

    tp: int
    batch: int
    context: int
    step: float
    block: float
    parts: dict[str, float]
    bound: str
    memory: Memory
    fits: bool
    tokens_per_second: float
    by_kind: dict[str, float]

    @property
    def tokens_per_second_per_device(self) -> float:
        """What a device contributes."""
        return self.tokens_per_second / self.tp

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; seconds and bytes."""
        return {
            **vars(self),
            "tokens_per_second_per_device": self.tokens_per_second_per_device,
            "memory": {**asdict(self.memory), "total": self.memory.total},
        }


def decode_step(
    config: ModelConfig,
    tp: int,
    batch: int,
    context: int,
    hardware: Hardware,
    *,
    dtype: str = "bfloat16",
    window: int | None = None,
    host: Host = "graph",
    stack: Stack = SERVING,
) -> Decode:
    """Return what one decode step costs when steps follow each other.

    Parameters
    ----------
    config : ModelConfig
    tp : int
        Ranks.
    batch, context : int
        Sequences, and the positions that each sees: `context - 1` in the cache, and its new one.
    hardware : Hardware
    dtype : str
        Of weights, activations and cache.
    window : int, optional
        Of a sliding-window attention.
    host : {"graph", "eager"}
        Whether a step is one CUDA graph, as servers have it, or the host issues every call.
    stack : Stack
        `SERVING` takes rotary to be part of the kernel that writes k and v into their cache.
    """
    for name, value in (("batch", batch), ("context", context)):
        if value < 1:
            raise ValueError(f"decode_step: {name} {value} is too few; pick 1 or more")
    run = run_pass(
        config, tp, batch=batch, new=1, earlier=context - 1, window=window, dtype=dtype, stack=stack
    )
    timeline = steady(run.launches, hardware, host=host)
    parts = _parts(timeline, hardware)
    kept = context if window is None else min(window, context)
    needed = _memory(config, tp, batch, kept, dtype, run)
    in_blocks = timeline.by(lambda launch: "blocks" if launch.layer.startswith("blocks.") else "")
    return Decode(
        tp=tp,
        batch=batch,
        context=context,
        step=timeline.seconds,
        block=in_blocks["blocks"] / config.layers,
        parts=parts,
        bound=max(parts, key=lambda part: parts[part]),
        memory=needed,
        fits=needed.total <= hardware.memory_bytes,
        tokens_per_second=batch / timeline.seconds,
        by_kind=timeline.by(kind),
    )


def _parts(timeline: Timeline, hardware: Hardware) -> dict[str, float]:
    """Share the step out over what bounds it; with a host in the way, the waiting is with "launches"."""
    parts = dict.fromkeys(("weights", "kv_cache", "flops", "all_reduce"), 0.0)
    for span in timeline.spans:
        work, seconds = span.launch.work, span.end - span.start
        if isinstance(work, Collective):
            parts["all_reduce"] += seconds
        elif isinstance(work, Gemm | Attention):
            reading = memory_seconds(work, hardware)
            read = min(seconds, reading)
            parts["weights" if isinstance(work, Gemm) else "kv_cache"] += read
            parts["flops"] += min(seconds - read, max(0.0, matmul_seconds(work, hardware) - reading))
    return {**parts, "launches": max(0.0, timeline.seconds - sum(parts.values()))}


def _memory(config: ModelConfig, tp: int, batch: int, kept: int, dtype: str, run: Pass) -> Memory:
    size = itemsize(dtype)
    return Memory(
        weights=run.parameters * size,
        gradients=0,
        optimizer=0,
        activations=0,
        working=run.working,
        kv_cache=kv_cache_bytes(config, tp, batch, kept, size),
    )


def largest_batch(row: Decode, hardware: Hardware) -> int:
    """Return how many sequences of the row's context fit beside the weights; 0 if these don't."""
    memory = row.memory
    sequence = (memory.kv_cache + memory.working) / row.batch
    return max(0, int((hardware.memory_bytes - memory.weights) // sequence))


# --- prefill ------------------------------------------------------------------------------------------------


def prefill_seconds(
    config: ModelConfig,
    tp: int,
    prompt: int,
    hardware: Hardware,
    *,
    batch: int = 1,
    chunk: int | None = None,
    dtype: str = "bfloat16",
    window: int | None = None,
    host: Host = "graph",
    stack: Stack = SERVING,
) -> float:
    """Return the time to first token: `batch` prompts go in, in chunks if asked."""
    if prompt < 1 or (chunk is not None and chunk < 1):
        raise ValueError(
            f"prefill_seconds: a prompt of {prompt} tokens in chunks of {chunk}; pick 1 token or more of each"
        )
    total = 0.0
    for start in range(0, prompt, chunk or prompt):
        new = min(chunk or prompt, prompt - start)
        run = run_pass(
            config, tp, batch=batch, new=new, earlier=start, window=window, dtype=dtype, stack=stack
        )
        total += steady(run.launches, hardware, host=host).seconds
    return total
