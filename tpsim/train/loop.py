"""A training run: what every rank does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpsim import models
from tpsim.comm import Mesh, faults
from tpsim.comm.wire import Check
from tpsim.models import LanguageModel
from tpsim.trace.profile import Profile
from tpsim.train import checkpoint
from tpsim.train.config import TrainConfig
from tpsim.train.data import Corpus, read
from tpsim.train.flops import gemm_peak, model_flops
from tpsim.train.fsdp import FullySharded
from tpsim.train.loss_scale import LossScale
from tpsim.train.optimizer import AdamW
from tpsim.train.resume import ResumeError, check_course, text_digest
from tpsim.train.schedule import warmup_cosine
from tpsim.train.step import held_out_loss, own_samples, train_step
from tpsim.train.tracing import StepTraces

_WINDOWS_BETWEEN = 32  # held-out windows while training goes on; all of them at the end


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One line of metrics.jsonl: step k of this run, from 1. `held_out` where it was looked at."""

    step: int
    loss: float
    lr: float
    grad_norm: float | None  # None where float16 overflowed, and the step was left out
    tokens_per_second: float
    in_collectives: float  # part of the step's time
    of_peak: float  # part of what the machine's matrix products could do; on rank 0
    held_out: float | None = None
    loss_scale: float | None = None  # that the step ran with, in float16


def train(
    comm: Any,
    config: TrainConfig,
    corpus: Corpus | None = None,
    tell: Callable[[Metrics], None] | None = None,
    trace: str | None = None,
    tell_profile: Callable[[Profile], None] | None = None,
    check: Check | None = None,
) -> list[Metrics]:
    """Train on one rank of many: what every rank runs.

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
    config : TrainConfig
    corpus : Corpus, optional
        In place of reading it.
    tell : callable, optional
        Called on rank 0 after every step.
    trace : str, optional
        File for a Chrome trace of steps 2 to 4 of this run.
    tell_profile : callable, optional
        Called on rank 0 in the end, with where the time of steps 2 to 21 went. All ranks pass one, or none.
    check : bool or "data", optional
        What ranks check of each other's calls; see `Group`.

    Returns
    -------
    list of Metrics
        Losses and norms alike on every rank. The last one's `held_out` is over the whole held-out text.

    Raises
    ------
    ResumeError
        On every rank, if the checkpoint to go on from is damaged, or another run's.
    """
    mesh = Mesh(comm, config.tp, algorithm=config.algorithm, check=check)
    corpus = corpus or read(config.text, config.seq)
    model = build(config, mesh)
    optimizer = AdamW(model, weight_decay=config.weight_decay)
    loss_scale = LossScale() if config.dtype == "float16" else None
    if config.resume:
        _resume(config, corpus, model, optimizer, loss_scale, mesh)
    samples = own_samples(config.batch, mesh)
    tokens = config.batch * config.seq
    first = comm.Get_rank() == 0
    flops = model_flops(model.config, tokens, config.seq)
    wide = "float64" if config.dtype == "float64" else "float32"  # what products are computed in
    peak = gemm_peak(wide) if first else math.inf  # at once, ranks would measure each other
    some, every = corpus.held_out_windows(config.seq, _WINDOWS_BETWEEN), corpus.held_out_windows(config.seq)
    out = Path(config.out) if config.out else None
    done: list[Metrics] = []
    end = min(config.steps, config.stop_after or config.steps)
    traces = StepTraces(comm, mesh, range(optimizer.steps, end), trace, tell_profile)
    for step in range(optimizer.steps, end):
        faults.begin_step(step + 1)
        scale = loss_scale.scale if loss_scale else None
        lr = warmup_cosine(step, config.steps, config.lr, warmup=max(1, config.steps // 10))
        result = train_step(
            model,
            optimizer,
            mesh,
            corpus.batch(config.seed, step, samples, config.seq),
            samples,
            lr=lr,
            seed=config.seed,
            step=step,
            microbatches=config.microbatches,
            max_norm=config.max_norm,
            loss_scale=loss_scale,
            trace=traces.of(step),
        )
        last, held_out = step + 1 == end, None
        if last or (step + 1) % config.evaluate_every == 0:
            held_out = held_out_loss(model, mesh, every if last else some, config.batch)
        metrics = Metrics(
            step=step + 1,
            loss=result.loss,
            lr=lr,
            grad_norm=None if result.left_out else result.grad_norm,
            tokens_per_second=tokens / result.seconds,
            in_collectives=result.seconds_in_collectives / result.seconds,
            of_peak=flops / result.seconds / peak,
            held_out=held_out,
            loss_scale=scale,
        )
        done.append(metrics)
        if first:
            if out:
                if len(done) == 1:
                    _forget_from(out / "metrics.jsonl", step + 1 if config.resume else 0)
                _append(out / "metrics.jsonl", metrics)
            if tell:
                tell(metrics)
        if out and (last or (step + 1) % config.save_every == 0):
            checkpoint.save(out, model, optimizer, mesh, _meta(config, corpus, optimizer, loss_scale))
    traces.finish()
    return done


def build(config: TrainConfig, mesh: Mesh) -> LanguageModel | FullySharded:
    """Return the model as this rank holds it: alike at every tp and dp, for it is drawn whole."""
    model = LanguageModel(
        models.get(config.model),
        mesh.tp,
        sequence_parallel=config.sequence_parallel,
        dropout=config.dropout,
        attention_dropout=config.dropout,
        recompute=config.recompute,
        rng=np.random.default_rng(config.seed),
        dtype=config.dtype,
    )
    return FullySharded(model, mesh.dp) if config.fsdp else model


def _meta(
    config: TrainConfig, corpus: Corpus, optimizer: AdamW, loss_scale: LossScale | None
) -> dict[str, Any]:
    """Return what a checkpoint keeps beside the model and the optimizer's arrays."""
    return asdict(config) | {
        "text_sha256": text_digest(corpus),
        "left_out": optimizer.left_out,
        "loss_scale": loss_scale.state() if loss_scale else None,
    }


def _resume(
    config: TrainConfig,
    corpus: Corpus,
    model: LanguageModel | FullySharded,
    optimizer: AdamW,
    loss_scale: LossScale | None,
    mesh: Mesh,
) -> None:
    try:
        meta = checkpoint.load(Path(config.resume or ""), model, optimizer, mesh)
        check_course(config, corpus, meta)
    except ValueError as error:
        raise ResumeError(str(error)) from error
    optimizer.left_out = meta.get("left_out", 0)
    if loss_scale and meta.get("loss_scale"):
        loss_scale.load_state(meta["loss_scale"])


def _forget_from(path: Path, step: int) -> None:
    """Drop the lines of an earlier run from this step on: they are written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if step and path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # a killed run may have stopped within one
    path.write_text("".join(line for line in whole if json.loads(line)["step"] < step), encoding="utf-8")


def _append(path: Path, metrics: Metrics) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(metrics)) + "\n")
