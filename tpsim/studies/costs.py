"""What a training step costs on given hardware: memory, messages, time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tpsim.cost.hardware import Hardware
from tpsim.cost.memory import MIXES, Memory, memory
from tpsim.cost.plan import Host
from tpsim.cost.stacks import EAGER, Stack, launches
from tpsim.cost.timeline import Timeline, kind, schedule, steady
from tpsim.cost.work import Launch
from tpsim.studies.dry_run import Plan, dry_step
from tpsim.trace import Trace


@dataclass(frozen=True)
class Costs:
    """What one plan costs a step; all figures are of one rank.

    Attributes
    ----------
    plan : Plan
    ranks : int
        How many there are in all.
    memory : Memory
    fits : bool
        Whether that is no more than the device has.
    model_flops : int
        Of all ranks together: matrix products of forward and backward, none of what is computed twice.
    collectives, sent_bytes : int
        Calls, and bytes that the rank sends.
    forward, backward, ending : float
        Seconds of a microbatch's two passes, the loss in the first, and of what comes once a step.
    step : float
        Seconds of the step.
    exposed : float
        Of those, the seconds with communication and nothing computed beside it.
    host_bound : float
        Of those, the seconds in which the device waits for its host.
    mfu : float
        Share of the device's peak that `model_flops` are.
    tokens_per_second : float
        Of all ranks together.
    by_kind : dict
        Seconds of a microbatch by kind of kernel and collective, waiting included.
    block : dict
        Seconds of one block: "forward", "backward".

    Notes
    -----
    Training goes on: all times are those at the clock that the power limit leaves, not of a rested device at
    boost. `studies.block` prices a layer by itself, as often as a benchmark repeats it.
    """

    plan: Plan
    ranks: int
    memory: Memory
    fits: bool
    model_flops: int
    collectives: int
    sent_bytes: int
    forward: float
    backward: float
    ending: float
    step: float
    exposed: float
    host_bound: float
    mfu: float
    tokens_per_second: float
    by_kind: dict[str, float]
    block: dict[str, float]
    timeline: Timeline = field(repr=False)

    @property
    def tokens_per_second_per_device(self) -> float:
        """What a device contributes."""
        return self.tokens_per_second / self.ranks

    def to_dict(self) -> dict[str, Any]:
        """Return all but the timeline, ready for JSON; seconds and bytes."""
        plan = {name: value for name, value in vars(self.plan).items() if name != "config"}
        rest = {
            name: value for name, value in vars(self).items() if name not in ("plan", "memory", "timeline")
        }
        return {
            "model": self.plan.config.name,
            **plan,
            **rest,
            "tokens_per_second_per_device": self.tokens_per_second_per_device,
            "memory": {**asdict(self.memory), "total": self.memory.total},
        }


def costs(
    plan: Plan,
    hardware: Hardware,
    *,
    microbatches: int = 1,
    stack: Stack = EAGER,
    host: Host = "eager",
    mix: str = "megatron",
) -> Costs:
    """Return what a step of `microbatches` costs.

    Parameters
    ----------
    plan : Plan
    hardware : Hardware
    microbatches : int
        Of `plan.batch` sequences each, one after another.
    stack : Stack
        The software that runs it. A fused attention keeps no probabilities, and computes them again in
        backward: for it, no recompute is what selective recompute is for one in pieces.
    host : {"eager", "graph"}
    mix : str
        Of precision; a key of `MIXES`.
    """
    fused = stack.attention == "fused"
    step = dry_step(replace(plan, recompute="selective") if fused and plan.recompute == "none" else plan)
    spread = {"dp": plan.tp}  # tensor-parallel ranks are neighbours
    run = steady(launches(step.microbatch, stack, spread=spread), hardware, host=host)
    last = (
        run
        if step.last is step.microbatch
        else schedule(launches(step.last, stack, spread=spread), hardware, host=host, heat=run.heat)
    )
    ending = schedule(launches(step.ending, stack, spread=spread), hardware, host=host, heat=run.heat)
    whole = [run] * (microbatches - 1) + [last, ending]
    seconds = sum(timeline.seconds for timeline in whole)
    backward = run.by(lambda launch: launch.phase).get("backward", 0.0)
    needed = replace(memory(step.microbatch, MIXES[mix], fused_attention=fused), gathered=step.gathered)
    traces = [step.microbatch] * (microbatches - 1) + [step.last, step.ending]
    events = [event for trace in traces for event in trace.collectives if event.ranks > 1]
    flops = plan.tp * plan.dp * microbatches * model_flops(step.microbatch)
    peak = hardware.peak_flops[plan.dtype]
    ranks = plan.tp * plan.dp
    return Costs(
        plan=plan,
        ranks=ranks,
        memory=needed,
        fits=needed.total <= hardware.memory_bytes,
        model_flops=flops,
        collectives=len(events),
        sent_bytes=sum(event.bytes_sent for event in events),
        forward=run.seconds - backward,
        backward=backward,
        ending=ending.seconds,
        step=seconds,
        exposed=sum(timeline.exposed for timeline in whole),
        host_bound=sum(timeline.host_bound for timeline in whole),
        mfu=flops / ranks / seconds / peak,
        tokens_per_second=plan.batch * plan.seq * plan.dp * microbatches / seconds,
        by_kind=run.by(kind),
        block=_block(run, plan.config.layers),
        timeline=run,
    )


def model_flops(trace: Trace) -> int:
    """Return the FLOPs of matrix products, without those that run again in backward."""
    return sum(kernel.matmul_flops for kernel in trace.kernels if "recompute" not in kernel.layer.split("."))


def _block(timeline: Timeline, layers: int) -> dict[str, float]:
    """Return the mean seconds of a block's two passes."""

    def label(launch: Launch) -> str:
        return launch.phase if launch.layer.startswith("blocks.") else ""

    times = timeline.by(label)
    return {phase: times.get(phase, 0.0) / layers for phase in ("forward", "backward")}
