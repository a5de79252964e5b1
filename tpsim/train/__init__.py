"""Training: data, optimizers, clipping, and the step and loop that use them on a tp × dp mesh.

The rule throughout: a step is one device's step, however its work is cut.
"""

from tpsim.train.clip import clip, global_norm
from tpsim.train.config import TrainConfig
from tpsim.train.data import Corpus, read
from tpsim.train.fsdp import FullySharded
from tpsim.train.loop import Metrics, train
from tpsim.train.loss_scale import LossScale
from tpsim.train.optimizer import SGD, AdamW, Optimizer
from tpsim.train.resume import ResumeError, resumed
from tpsim.train.schedule import warmup_cosine
from tpsim.train.step import StepResult, gradients, held_out_loss, own_samples, train_step

__all__ = [
    "SGD",
    "AdamW",
    "Corpus",
    "FullySharded",
    "LossScale",
    "Metrics",
    "Optimizer",
    "ResumeError",
    "StepResult",
    "TrainConfig",
    "clip",
    "global_norm",
    "gradients",
    "held_out_loss",
    "own_samples",
    "read",
    "resumed",
    "train",
    "train_step",
    "warmup_cosine",
]
