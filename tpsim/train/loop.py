"""A training run: what it is made of, and what every rank does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tpsim import models
from tpsim.comm import Mesh
from tpsim.models import LanguageModel, ModelConfig
from tpsim.nn.recompute import Recompute
from tpsim.train import checkpoint
from tpsim.train.data import Corpus, read
from tpsim.train.flops import gemm_peak, model_flops
from tpsim.train.optimizer import AdamW
from tpsim.train.schedule import warmup_cosine
from tpsim.train.step import held_out_loss, own_samples, train_step

DTYPES = ("float32", "float64")
_WINDOWS_BETWEEN = 32  # held-out windows while training goes on; all of them at the end


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run; the same losses whatever `tp`, `dp`, `sequence_parallel` and `microbatches` are.

    Parameters
    ----------
    model : str
        A name that `models.get` knows.
    tp, dp : int
        Ranks that cut the model, and copies of it.
    sequence_parallel : bool
    text : str, optional
        A UTF-8 file; CPython's language reference by default.
    steps, batch, seq : int
        `batch` windows of `seq` bytes a step, over all ranks.
    microbatches : int
        How many a rank cuts its share of the batch into.
    lr : float
        The highest, after a tenth of the steps.
    dropout : float
        Of the residual stream and of the attentions.
    recompute : {"none", "selective", "full"}
    weight_decay, max_norm : float
    dtype : {"float32", "float64"}
    seed : int
        Of weights, windows and dropout.
    algorithm : str
        Of the collectives.
    evaluate_every, save_every : int
        In steps.
    stop_after : int, optional
        The last step, if not that of `steps`, by which the learning rate goes.
    out, resume : str, optional
        Folders: where to write metrics and checkpoints, and the checkpoint to go on from.
    """

    model: str = "tiny-gpt"
    tp: int = 4
    dp: int = 1
    sequence_parallel: bool = False
    text: str | None = None
    steps: int = 800
    batch: int = 16
    seq: int = 128
    microbatches: int = 1
    lr: float = 2e-3
    dropout: float = 0.0
    recompute: Recompute = "none"
    weight_decay: float = 0.1
    max_norm: float = 1.0
    dtype: str = "float32"
    seed: int = 0
    algorithm: str = "ring"
    evaluate_every: int = 50
    save_every: int = 100
    stop_after: int | None = None
    out: str | None = None
    resume: str | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be run, before any rank starts.

        Raises
        ------
        ValueError
            What was asked, why it can't be, what to do.
        """
        for name in ("tp", "dp", "steps", "batch", "seq", "microbatches", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is too few; pick 1 or more")
        if self.stop_after is not None and not 1 <= self.stop_after <= self.steps:
            raise ValueError(
                f"stop_after {self.stop_after} is none of the {self.steps} steps; pick one of them"
            )
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed {self.seed} can't key a generator; pick 0 or more, below 2^64")
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"dropout {self.dropout} is not the probability of dropping some; pick 0 ≤ p < 1"
            )
        if not self.lr > 0:
            raise ValueError(f"lr {self.lr} learns nothing; pick a positive number, such as 0.002")
        for name, known in (("dtype", DTYPES), ("recompute", get_args(Recompute))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is not known here; pick {' or '.join(known)}"
                )
        if self.batch % (self.dp * self.microbatches):
            raise ValueError(
                f"a batch of {self.batch} can't be shared evenly by {self.dp} data-parallel ranks with "
                f"{self.microbatches} microbatches each; pick a multiple of {self.dp * self.microbatches}"
            )
        self._check_model(models.get(self.model))

    def _check_model(self, model: ModelConfig) -> None:
        a, g, f, t = model.heads, model.kv_heads, model.ffn, self.tp
        fit = [n for n in range(1, a + 1) if not (a % n or f % n or (g % n and n % g))]
        if t not in fit:
            raise ValueError(
                f"{model.name} with {a} heads, {g} kv heads and an MLP of {f} can't be cut evenly among {t} "
                f"ranks; pick tp from {', '.join(map(str, fit))}"
            )
        if self.seq > model.max_seq:
            raise ValueError(
                f"a seq of {self.seq} is longer than the {model.max_seq} positions of {model.name}; pick less"
            )
        if self.sequence_parallel and self.seq % t:
            raise ValueError(
                f"a sequence of {self.seq} can't be cut evenly among {t} ranks; pick seq a multiple of {t}"
            )
        if model.vocab < 256:
            raise ValueError(
                f"{model.name} has {model.vocab} words, and a byte 256 values; pick another model"
            )

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.tp * self.dp


class ResumeError(ValueError):
    """A checkpoint can't be gone on from; every rank raises it."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One line of metrics.jsonl: step k of this run, from 1. `held_out` where it was looked at."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    in_collectives: float  # part of the step's time
    of_peak: float  # part of what the machine's matrix products could do; on rank 0
    held_out: float | None = None


def train(
    comm: Any,
    config: TrainConfig,
    corpus: Corpus | None = None,
    tell: Callable[[Metrics], None] | None = None,
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

    Returns
    -------
    list of Metrics
        Losses and norms alike on every rank. The last one's `held_out` is over the whole held-out text.

    Raises
    ------
    ResumeError
        On every rank, if the checkpoint to go on from is damaged or another model's.
    """
    mesh = Mesh(comm, config.tp, algorithm=config.algorithm)
    corpus = corpus or read(config.text, config.seq)
    model = build(config, mesh)
    optimizer = AdamW(model, weight_decay=config.weight_decay)
    if config.resume:
        _resume(Path(config.resume), model, optimizer, mesh)
    samples = own_samples(config.batch, mesh)
    tokens = config.batch * config.seq
    first = comm.Get_rank() == 0
    flops = model_flops(model.config, tokens, config.seq)
    peak = gemm_peak(config.dtype) if first else math.inf  # at once, ranks would measure each other
    some, every = corpus.held_out_windows(config.seq, _WINDOWS_BETWEEN), corpus.held_out_windows(config.seq)
    out = Path(config.out) if config.out else None
    done: list[Metrics] = []
    end = min(config.steps, config.stop_after or config.steps)
    for step in range(optimizer.steps, end):
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
        )
        last, held_out = step + 1 == end, None
        if last or (step + 1) % config.evaluate_every == 0:
            held_out = held_out_loss(model, mesh, every if last else some, config.batch)
        metrics = Metrics(
            step=step + 1,
            loss=result.loss,
            lr=lr,
            grad_norm=result.grad_norm,
            tokens_per_second=tokens / result.seconds,
            in_collectives=result.seconds_in_collectives / result.seconds,
            of_peak=flops / result.seconds / peak,
            held_out=held_out,
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
            checkpoint.save(out, model, optimizer, mesh, asdict(config))
    return done


def build(config: TrainConfig, mesh: Mesh) -> LanguageModel:
    """Return the model as this rank holds it: alike at every tp and dp, for it is drawn whole."""
    return LanguageModel(
        models.get(config.model),
        mesh.tp,
        sequence_parallel=config.sequence_parallel,
        dropout=config.dropout,
        attention_dropout=config.dropout,
        recompute=config.recompute,
        rng=np.random.default_rng(config.seed),
        dtype=config.dtype,
    )


def _resume(folder: Path, model: LanguageModel, optimizer: AdamW, mesh: Mesh) -> None:
    try:
        checkpoint.load(folder, model, optimizer, mesh)
    except ValueError as error:
        raise ResumeError(str(error)) from error


def _forget_from(path: Path, step: int) -> None:
    """Drop the lines of an earlier run from this step on: they are written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if step and path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # a killed run may have stopped within one
    path.write_text("".join(line for line in whole if json.loads(line)["step"] < step), encoding="utf-8")


def _append(path: Path, metrics: Metrics) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(metrics)) + "\n")
