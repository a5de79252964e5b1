"""Training steps of this machine: measured under mpiexec, against a dry run priced by its own profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpsim.comm import DryMesh, Mesh
from tpsim.cost.hardware import Hardware
from tpsim.cost.stacks import NUMPY, launches
from tpsim.cost.stacks.numpy_calls import family
from tpsim.cost.work import Pointwise
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.config import gpt
from tpsim.nn import mean_over_valid, sum_replica_gradients
from tpsim.nn.masks import drawing
from tpsim.studies.calibrate.timing import Clock, own, quiet, wall
from tpsim.studies.validate.comparison import Comparison
from tpsim.trace import Trace
from tpsim.train.optimizer import AdamW
from tpsim.train.step import train_step

PARTS = ("forward", "backward", "optimizer", "rest", "step", "messages", "computing")
"""Of a step: four that add up to it, the whole, and the whole in two; "computing" is the processor's time."""


@dataclass(frozen=True)
class Job:
    """A step: which model, on how many sequences of which length."""

    config: ModelConfig
    batch: int
    seq: int
    dtype: str = "float32"

    def __str__(self) -> str:
        c = self.config
        return f"{c.layers} layers, hidden {c.hidden}, {self.batch} × {self.seq} tokens, {self.dtype}"


def _job(hidden: int, heads: int, seq: int, layers: int = 4) -> Job:
    return Job(gpt(f"gpt-{hidden}", layers, hidden, heads, vocab=256, max_seq=seq), 8, seq)


JOBS = (_job(128, 4, 128), _job(256, 4, 128), _job(512, 8, 256))

# --- predicted ----------------------------------------------------------------------------------------------


def predicted(job: Job, prices: Hardware, *, tp: int) -> dict[str, float]:
    """Return the seconds of a step's parts, by the layers' own code on shapes."""
    mesh = DryMesh(tp)
    with shapes_only():
        model = LanguageModel(job.config, mesh.tp, dtype=job.dtype)
    tokens: Any = ShapeArray((job.batch, job.seq), "int64")
    parts = dict.fromkeys(PARTS, 0.0)
    with Trace(kernels=True) as trace, drawing(0, 0, range(job.batch)):
        loss = model.forward(tokens, tokens)
        _, dloss = mean_over_valid(loss, tokens, job.batch * job.seq)
        model.backward(dloss)
        sum_replica_gradients(model)
    for launch in launches(trace, NUMPY):
        seconds = prices.seconds(launch.work)
        parts[launch.phase or "rest"] += seconds
        if launch.stream == "communication":
            parts["messages"] += seconds
    optimizer = AdamW(model)
    with Trace(kernels=True) as ending:
        optimizer.step(1e-4)
    parts["optimizer"] = sum(prices.seconds(launch.work) for launch in launches(ending, NUMPY))
    parts["rest"] += sum(map(prices.seconds, clipping(model)))
    parts["step"] = sum(parts[part] for part in PARTS[:4])
    parts["computing"] = parts["step"] - parts["messages"]
    return parts


def clipping(model: LanguageModel) -> Iterator[Pointwise]:
    """Yield what clipping runs for each gradient: squares summed (no dry run has the value), a scaling."""
    for parameter in model.parameters().values():
        array = parameter.data
        rows, width = array.size // array.shape[-1], array.shape[-1]
        for name, arrays in (("square_sum", 1), ("multiply", 2)):
            yield Pointwise(
                family(name, array.dtype.name), rows, width, arrays * array.nbytes, array.dtype.name
            )


# --- measured -----------------------------------------------------------------------------------------------


class Watch:
    """Adds up the seconds of named parts, by a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with its seconds added to a part's."""

        def watched(*inputs: Any) -> Any:
            began = self.clock()
            result = function(*inputs)
            self.seconds[part] += self.clock() - began
            return result

        return watched


def measured(comm: Any, jobs: Sequence[Job] = JOBS, *, rounds: int = 9) -> list[dict[str, float]]:
    """Return the seconds of each job's parts on all ranks of a tensor-parallel group.

    Jobs take turns. Of each part the lower quartile counts, and the slowest rank. Waiting for a rank that
    the machine has set aside counts as messages; "computing" is what the processor did in between.
    """
    mesh = Mesh(comm, comm.Get_size())
    steps = [_step(job, mesh) for job in jobs]
    turns = np.empty((rounds + 1, len(jobs), len(PARTS)))
    for turn in range(rounds + 1):
        for place, step in enumerate(steps):
            comm.Barrier()
            turns[turn, place] = step(turn)
    slowest = np.max(comm.allgather(quiet(turns[1:])), axis=0)  # the first turn warms up
    return [dict(zip(PARTS, map(float, of_job), strict=True)) for of_job in slowest]


def _step(job: Job, mesh: Mesh) -> Callable[[int], list[float]]:
    """Return a function that takes a step and returns the seconds of its parts."""
    model = LanguageModel(job.config, mesh.tp, dtype=job.dtype)
    optimizer, parts, messages = AdamW(model), Watch(wall), Watch(own)
    for part in ("forward", "backward"):
        vars(model)[part] = parts.timed(part, getattr(model, part))
    vars(optimizer)["step"] = parts.timed("optimizer", optimizer.step)
    for call in ("all_reduce", "all_gather", "reduce_scatter"):
        vars(mesh.tp)[call] = messages.timed("messages", getattr(mesh.tp, call))
    windows = np.random.default_rng(0).integers(0, job.config.vocab, (job.batch, job.seq + 1))

    def step(number: int) -> list[float]:
        parts.seconds.clear()
        messages.seconds.clear()
        began = own()
        result = train_step(model, optimizer, mesh, windows, range(job.batch), lr=1e-4, seed=0, step=number)
        computing = own() - began - messages.seconds["messages"]
        three = [parts.seconds[part] for part in PARTS[:3]]
        rest = result.seconds - sum(three)
        return [*three, rest, result.seconds, result.seconds_in_collectives, computing]

    return step


# --- side by side -------------------------------------------------------------------------------------------


def steps(comm: Any, prices: Hardware, jobs: Sequence[Job] = JOBS, *, rounds: int = 9) -> list[Comparison]:
    """Compare every part of every job's step, in milliseconds: what each rank of `comm` runs."""
    found = measured(comm, jobs, rounds=rounds)
    rows = []
    for job, seconds in zip(jobs, found, strict=True):
        ours = predicted(job, prices, tp=comm.Get_size())
        rows += [
            Comparison(f"a training step: {job}", part, 1e3 * seconds[part], 1e3 * ours[part], "ms")
            for part in PARTS
        ]
    return rows
