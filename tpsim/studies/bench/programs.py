"""What tpsim's ranks are timed at. Each program makes a task: a function that takes one step."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group, Mesh
from tpsim.cost.memory import MIXES
from tpsim.cost.memory import memory as count
from tpsim.models import LanguageModel
from tpsim.models.config import from_dict
from tpsim.nn import TransformerBlock
from tpsim.studies.bench.resident import forget_peak, peak, resident
from tpsim.studies.bench.sizes import BLOCKS
from tpsim.studies.bench.worker import Program, Task
from tpsim.trace import Trace
from tpsim.train.optimizer import AdamW
from tpsim.train.step import train_step

Array = NDArray[Any]


class Groups:
    """What programs of one rank share: groups over the contender's ranks, and input, each made once."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self._made: dict[tuple[Any, ...], Group] = {}
        self._numbers: dict[int, Array] = {}

    def numbers(self, elements: int) -> Array:
        """Return an array of float32 that no program changes, the same each time."""
        if elements not in self._numbers:
            self._numbers[elements] = np.ones(elements, np.float32)
        return self._numbers[elements]

    def group(self, algorithm: str = "ring", *, check: bool = False, messages: bool | None = None) -> Group:
        """Return a group; arguments as for `Group`. Ranks don't compare their calls unless asked to."""
        how = algorithm, check, messages
        if how not in self._made:
            self._made[how] = Group(self.comm, algorithm, check=check, messages=messages)
        return self._made[how]


def gemm(groups: Groups, *, size: int, dtype: str) -> Task:
    """Multiply two square matrices into a third."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size)).astype(dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def copy(groups: Groups, *, nbytes: int) -> Task:
    """Copy an array on every rank; over when all ranks have."""
    source = np.ones(nbytes // 4, np.float32)
    target = np.zeros_like(source)
    group = groups.group()

    def step() -> None:
        np.copyto(target, source)
        group.barrier()

    return step


def block_weights(size: str) -> dict[str, Array]:
    """Return whole weights for a block by its parameters' names: no bias is 0, and no norm's weight 1."""
    s = BLOCKS[size]
    rng = np.random.default_rng(1)
    return {
        name: (
            rng.normal(0.0, 0.02, p.whole_shape) + name.startswith("norm") * name.endswith("weight")
        ).astype(np.float32)
        for name, p in TransformerBlock(s.hidden, s.heads, s.ffn).parameters().items()
    }


def block_inputs(size: str) -> tuple[Array, Array]:
    """Return x and dy, [batch, seq, hidden]."""
    s = BLOCKS[size]
    x, dy = np.random.default_rng(2).standard_normal((2, s.batch, s.seq, s.hidden), dtype=np.float32)
    return x, dy


def block(groups: Groups, *, size: str, check: bool = False) -> Task:
    """Run a block forward and backward: a step returns y and dx."""
    s = BLOCKS[size]
    layer = TransformerBlock(s.hidden, s.heads, s.ffn, groups.group(check=check))
    layer.load(block_weights(size))
    x, dy = block_inputs(size)

    def step() -> tuple[Array, Array]:
        layer.zero_grad()
        return layer.forward(x), layer.backward(dy)

    return step


class Trainer:
    """A model, its optimizer and a batch, with all ranks as one tensor-parallel group."""

    def __init__(self, groups: Groups, config: dict[str, Any], batch: int, seq: int) -> None:
        self._mesh = Mesh(groups.comm, groups.comm.Get_size(), check=False)
        self.model = LanguageModel(from_dict(config), self._mesh.tp)
        self.optimizer = AdamW(self.model)
        self._windows = np.random.default_rng(0).integers(0, self.model.config.vocab, (batch, seq + 1))

    def step(self, trace: Trace | None = None) -> float:
        """Take a training step: forward, backward, clipping, AdamW. Return the loss."""
        samples = range(len(self._windows))
        found = train_step(
            self.model,
            self.optimizer,
            self._mesh,
            self._windows,
            samples,
            lr=1e-4,
            seed=0,
            step=self.optimizer.steps,
            trace=trace,
        )
        return found.loss


def train(groups: Groups, *, config: dict[str, Any], batch: int, seq: int) -> Task:
    """Take training steps; one returns the loss."""
    return Trainer(groups, config, batch, seq).step


def memory(groups: Groups, *, config: dict[str, Any], batch: int, seq: int) -> Task:
    """Take training steps; one returns the bytes that it holds, and those that a trace of it counts.

    What the process held before there was a model does not count.
    """
    before = resident()
    trainer = Trainer(groups, config, batch, seq)

    def step() -> dict[str, Any]:
        forget_peak()
        trainer.step()
        held = peak() - before
        with Trace(kernels=True) as trace:
            trainer.step(trace)
            trainer.model.record_parameters()
        return {"held": held, "counted": asdict(count(trace, MIXES["float32"]))}

    return step


def collective(
    groups: Groups, *, operation: str, nbytes: int, algorithm: str, messages: bool | None = None
) -> Task:
    """Call a group's collective on float32; `nbytes` are those of the whole array."""
    group = groups.group(algorithm, messages=messages)
    elements = nbytes // 4
    x = groups.numbers(elements // group.size if operation == "all_gather" else elements)
    call = getattr(group, operation)
    return lambda: call(x)


PROGRAMS: dict[str, Program] = {
    "gemm": gemm,
    "copy": copy,
    "block": block,
    "train": train,
    "memory": memory,
    "collective": collective,
}
