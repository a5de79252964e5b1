"""What a training run is made of, and which runs can't be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from tpsim import models
from tpsim.models import ModelConfig
from tpsim.nn.recompute import Recompute

DTYPES = ("float32", "float64", "bfloat16", "float16")


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
    fsdp : bool
        The dp ranks keep shards of parameters and optimizer state, not copies; see `fsdp`.
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
    dtype : {"float32", "float64", "bfloat16", "float16"}
        Of weights and activations. The narrow two are computed with in float32, and their weights have
        float32 masters in the optimizer; float16 has a loss scale besides (`LossScale`).
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
    fsdp: bool = False
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
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr {self.lr} learns nothing; pick a positive number, such as 0.002")
        for name, known in (("dtype", DTYPES), ("recompute", get_args(Recompute))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is not known here; pick one of {', '.join(known)}"
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
