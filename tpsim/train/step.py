"""One training step on a tp × dp mesh: the same step at every cut of the work."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Mesh
from tpsim.models import LanguageModel
from tpsim.nn import count_valid, mean_over_valid, sum_replica_gradients
from tpsim.nn.masks import drawing
from tpsim.nn.recompute import forgetting
from tpsim.trace import CollectiveEvent, Trace
from tpsim.train.buckets import BUCKET_BYTES, GradientBuckets
from tpsim.train.clip import clip
from tpsim.train.fsdp import FullySharded
from tpsim.train.loss_scale import LossScale
from tpsim.train.optimizer import Optimizer

Array = NDArray[Any]


@dataclass(frozen=True)
class StepResult:
    """What a step found.

    Attributes
    ----------
    loss : float
        Over the whole batch, *before* the update.
    grad_norm : float
        Before clipping.
    seconds, seconds_in_collectives : float
        Of this rank. Waiting for others counts as the collective's, and so does what a non-blocking one
        overlaps with; time in which several are under way counts once.
    left_out : bool
        Whether gradients overflowed, so that no weight was changed.
    """

    loss: float
    grad_norm: float
    seconds: float
    seconds_in_collectives: float
    left_out: bool = False


def own_samples(batch: int, mesh: Mesh) -> range:
    """Return which sequences of the global batch this rank works on."""
    if batch % mesh.dp.size:
        raise ValueError(
            f"a batch of {batch} can't be shared evenly by {mesh.dp.size} data-parallel ranks; pick a "
            "multiple"
        )
    share = batch // mesh.dp.size
    return range(mesh.dp.rank * share, (mesh.dp.rank + 1) * share)


def gradients(
    model: LanguageModel | FullySharded,
    mesh: Mesh,
    tokens: Array,
    targets: Array,
    samples: Sequence[int],
    *,
    seed: int,
    step: int,
    microbatches: int = 1,
    nbytes: int = BUCKET_BYTES,
    scale: float = 1.0,
) -> float:
    """Fill in the gradient of the mean loss over the whole batch; return that mean.

    Every microbatch's loss is divided by the count of valid tokens of *all* microbatches and all
    data-parallel ranks. So what they yield are shares, and sums of shares are right: over microbatches
    (`add_grad`), over data-parallel ranks, and over replicas inside the tensor-parallel group.

    Parameters
    ----------
    model : LanguageModel or FullySharded
    mesh : Mesh
    tokens, targets : array
        Integers [b, s]: this data-parallel rank's part of the batch.
    samples : sequence of int
        Where each of the b sequences stands in the whole batch; dropout masks depend on it.
    seed, step : int
        What else masks depend on.
    microbatches : int
        Run b / microbatches sequences at a time: less memory, the same gradient.
    nbytes : int
        Of a bucket of gradients that data-parallel ranks sum.
    scale : float
        Multiplies the gradients, not the mean.
    """
    if len(tokens) % microbatches:
        raise ValueError(
            f"{len(tokens)} sequences a rank can't be cut into {microbatches} equal microbatches; pick a "
            "divisor"
        )
    model.zero_grad()
    ignored = model.loss.ignore_index
    count = int(mesh.dp.all_reduce(np.array([count_valid(targets, ignored)]))[0])
    buckets = None  # a fully sharded model sums in its backward
    if mesh.dp.size > 1 and isinstance(model, LanguageModel):
        buckets = GradientBuckets(model, mesh.dp, nbytes)
    mean = 0.0
    for number, places in enumerate(np.split(np.arange(len(tokens)), microbatches), start=1):
        with drawing(seed, step, [samples[i] for i in places]), ExitStack() as while_backward:
            loss = model.forward(tokens[places], targets[places])
            share, dloss = mean_over_valid(loss, targets[places], count, ignored)
            mean += float(share)
            if buckets and number == microbatches:  # then gradients are whole
                while_backward.enter_context(buckets.filling())
            model.backward(dloss * scale)
    if buckets:
        buckets.finish()
    sum_replica_gradients(model)
    return float(mesh.dp.all_reduce(np.array([mean]))[0])


def train_step(
    model: LanguageModel | FullySharded,
    optimizer: Optimizer,
    mesh: Mesh,
    windows: Array,
    samples: Sequence[int],
    *,
    lr: float,
    seed: int,
    step: int,
    microbatches: int = 1,
    max_norm: float = 1.0,
    loss_scale: LossScale | None = None,
    trace: Trace | None = None,
) -> StepResult:
    """Take one step; `windows`, [b, s + 1], hold this rank's inputs and, one further on, its targets.

    With a loss scale, a step whose gradients overflow is left out, on all ranks. `trace` is what to record it
    into, if somebody wants to look at it.
    """
    began = time.perf_counter()
    quiet: dict[str, Any] = {"over": "ignore", "invalid": "ignore"} if loss_scale else {}
    with trace or Trace(saved=False) as trace, np.errstate(**quiet):
        loss = gradients(
            model,
            mesh,
            windows[:, :-1],
            windows[:, 1:],
            samples,
            seed=seed,
            step=step,
            microbatches=microbatches,
            scale=loss_scale.scale if loss_scale else 1.0,
        )
        if loss_scale:
            loss_scale.unscale(model)
        norm = clip(model, mesh.tp, max_norm, model.group if isinstance(model, FullySharded) else None)
        left_out = False
        if loss_scale:  # all ranks have this norm, and it is finite only if all their gradients are
            left_out = not math.isfinite(norm)
            loss_scale.update(finite=not left_out)
        if left_out:
            optimizer.leave_out()
        else:
            optimizer.step(lr)
    return StepResult(loss, norm, time.perf_counter() - began, under_way(trace.collectives), left_out)


def under_way(events: Iterable[CollectiveEvent]) -> float:
    """Return the seconds in which at least one of some collectives was under way."""
    total, until = 0.0, 0.0
    for event in sorted(events, key=lambda event: event.start):
        end = event.start + event.seconds
        total += max(0.0, end - max(event.start, until))
        until = max(until, end)
    return total


def held_out_loss(model: LanguageModel | FullySharded, mesh: Mesh, windows: Array, batch: int) -> float:
    """Return the mean loss over whole windows [n, s + 1], shared by the data-parallel ranks."""
    own = windows[mesh.dp.rank :: mesh.dp.size]
    total = 0.0
    for start in range(0, len(windows[:: mesh.dp.size]), batch):
        some = own[start : start + batch]  # perhaps none, but sharded ranks must run as often as the others
        with forgetting():  # no backward comes
            total += float(model.forward(some[:, :-1], some[:, 1:]).sum(dtype=np.float64))
    return float(mesh.dp.all_reduce(np.array([total]))[0]) / windows[:, 1:].size
