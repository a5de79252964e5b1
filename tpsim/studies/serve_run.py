"""One pass of serving on shapes alone: prefill or decode, the layers' own code, one rank standing for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tpsim.comm.dry import dry_group
from tpsim.cost.stacks import SERVING, Stack, launches
from tpsim.cost.work import Launch
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.infer import KVCache, Sampler, Sampling, next_logits
from tpsim.models import LanguageModel, ModelConfig
from tpsim.trace import Trace

_FIRST, _SECOND = "blocks.0", "blocks.1"


@dataclass(frozen=True)
class Pass:
    """What one rank launches in a pass over all its layers, and what it holds.

    Attributes
    ----------
    launches : list of Launch
    parameters : int
        Numbers in its shards of the weights.
    working : int
        Bytes of the largest result of a single kernel.
    """

    launches: list[Launch]
    parameters: int
    working: int


def run_pass(
    config: ModelConfig,
    tp: int,
    *,
    batch: int,
    new: int,
    earlier: int,
    window: int | None = None,
    dtype: str = "bfloat16",
    stack: Stack = SERVING,
) -> Pass:
    """Run `new` tokens of each of `batch` sequences that have `earlier` cached ones, and choose the next.

    Blocks are alike, and what a rank launches for one of them doesn't depend on how many there are: two are
    run, and the second stands for all the others.

    Parameters
    ----------
    config : ModelConfig
    tp : int
        Ranks.
    batch, new, earlier : int
        1 new token is a decode step; several are a prefill, or a chunk of one.
    window, dtype
        As for `KVCache`; dtype is that of weights and activations, too.
    stack : Stack
        What launches the kernels.
    """
    few, group = min(config.layers, 2), dry_group(tp)
    with shapes_only():
        model = LanguageModel(replace(config, layers=few), group, dtype=dtype)
    sampler = Sampler(config.vocab, group, Sampling())
    cache = KVCache(model, batch, earlier + new, window=window)
    cache.lengths = [earlier] * batch
    tokens: Any = ShapeArray((batch, new), "int64")
    with Trace(kernels=True) as trace:
        sampler.choose(next_logits(model, tokens, cache), [])
        model.record_parameters()
    times = config.layers - 1 if few == 2 else 1
    return Pass(
        repeated(launches(trace, stack), times),
        sum(_size(p.shape) * (times if p.name.startswith(f"{_SECOND}.") else 1) for p in trace.parameters),
        max(kernel.bytes_written for kernel in trace.kernels),
    )


def repeated(program: Sequence[Launch], times: int) -> list[Launch]:
    """Return a program with its second block in it so many times, as blocks 1, 2, …"""
    inside = [place for place, launch in enumerate(program) if _in(launch, _SECOND)]
    if not inside:
        return list(program)
    begin, end = inside[0], inside[-1] + 1
    length = end - begin
    result = list(program[:begin])
    for time in range(times):
        block = f"blocks.{1 + time}"
        for launch in program[begin:end]:
            path = block + launch.layer.removeprefix(_SECOND)
            result.append(_moved(replace(launch, layer=path), time * length))
    return result + [_moved(launch, (times - 1) * length) for launch in program[end:]]


def _moved(launch: Launch, by: int) -> Launch:
    """Return a launch that waits for what is `by` places later."""
    return replace(launch, after=tuple(place + by for place in launch.after))


def _in(launch: Launch, block: str) -> bool:
    return launch.layer == block or launch.layer.startswith(f"{block}.")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
