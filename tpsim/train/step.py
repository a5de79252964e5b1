"""One training step on a tp × dp mesh: the same step at every cut of the work."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from tpsim.trace import Trace
from tpsim.train.buckets import BUCKET_BYTES, GradientBuckets, after_backward
from tpsim.train.clip import clip
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
        overlaps with.
    """

    loss: float
    grad_norm: float
    seconds: float
    seconds_in_collectives: float


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
    model: LanguageModel,
    mesh: Mesh,
    tokens: Array,
    targets: Array,
    samples: Sequence[int],
    *,
    seed: int,
    step: int,
    microbatches: int = 1,
    nbytes: int = BUCKET_BYTES,
) -> float:
    """Fill in the gradient of the mean loss over the whole batch; return that mean.

    Every microbatch's loss is divided by the count of valid tokens of *all* microbatches and all
    data-parallel ranks. So what they yield are shares, and sums of shares are right: over microbatches
    (`add_grad`), over data-parallel ranks, and over replicas inside the tensor-parallel group.

    Parameters
    ----------
    model : LanguageModel
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
    """
    if len(tokens) % microbatches:
        raise ValueError(
            f"{len(tokens)} sequences a rank can't be cut into {microbatches} equal microbatches; pick a "
            "divisor"
        )
    model.zero_grad()
    ignored = model.loss.ignore_index
    count = int(mesh.dp.all_reduce(np.array([count_valid(targets, ignored)]))[0])
    buckets = GradientBuckets(model, mesh.dp, nbytes)
    mean = 0.0
    for number, places in enumerate(np.split(np.arange(len(tokens)), microbatches), start=1):
        with drawing(seed, step, [samples[i] for i in places]), ExitStack() as while_backward:
            loss = model.forward(tokens[places], targets[places])
            share, dloss = mean_over_valid(loss, targets[places], count, ignored)
            mean += float(share)
            if number == microbatches and mesh.dp.size > 1:  # then gradients are whole
                while_backward.enter_context(after_backward(model.blocks, buckets.ready))
            model.backward(dloss)
    if mesh.dp.size > 1:
        buckets.finish()
    sum_replica_gradients(model)
    return float(mesh.dp.all_reduce(np.array([mean]))[0])


def train_step(
    model: LanguageModel,
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
) -> StepResult:
    """Take one step; `windows`, [b, s + 1], hold this rank's inputs and, one further on, its targets."""
    began = time.perf_counter()
    with Trace() as trace:
        loss = gradients(
            model,
            mesh,
            windows[:, :-1],
            windows[:, 1:],
            samples,
            seed=seed,
            step=step,
            microbatches=microbatches,
        )
        norm = clip(model, mesh.tp, max_norm)
        optimizer.step(lr)
    waited = sum(event.seconds for event in trace.collectives)
    return StepResult(loss, norm, time.perf_counter() - began, waited)


def held_out_loss(model: LanguageModel, mesh: Mesh, windows: Array, batch: int) -> float:
    """Return the mean loss over whole windows [n, s + 1], shared by the data-parallel ranks."""
    own = windows[mesh.dp.rank :: mesh.dp.size]
    total = 0.0
    for start in range(0, len(own), batch):
        some = own[start : start + batch]
        with forgetting():  # no backward comes
            total += float(model.forward(some[:, :-1], some[:, 1:]).sum(dtype=np.float64))
    return float(mesh.dp.all_reduce(np.array([total]))[0]) / windows[:, 1:].size
