"""Training steps of small models, on one rank and on two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tpsim import models
from tpsim.models.config import ModelConfig, gpt
from tpsim.studies.bench import products
from tpsim.studies.bench.blocks import FREE, MPI_2, RANK
from tpsim.studies.bench.contenders import processes, virtual
from tpsim.studies.bench.crew import Crew
from tpsim.studies.bench.result import Row, Section, timed, worst
from tpsim.studies.bench.rounds import Effort, Entry, Say, prepare, take_turns
from tpsim.train.flops import model_flops


@dataclass(frozen=True)
class Job:
    """A model, and the batch of a step.

    Attributes
    ----------
    name : str
        As tables have it.
    config : ModelConfig
    batch, seq : int
    """

    name: str
    config: ModelConfig
    batch: int
    seq: int

    def arguments(self) -> dict[str, Any]:
        """Return what programs take."""
        return {"config": self.config.to_dict(), "batch": self.batch, "seq": self.seq}

    @property
    def flops(self) -> int:
        """FLOPs of a step: of matrix products, each once."""
        return model_flops(self.config, self.batch * self.seq, self.seq)


NUMPITRON = "NuMPItron's model"
GPT_512 = "GPT, hidden 512"
JOBS = (
    Job(NUMPITRON, gpt("numpitron", 4, 128, 4, vocab=65, max_seq=64), 12, 64),
    Job("tiny-llama", models.get("tiny-llama"), 8, 128),
    Job(GPT_512, gpt("gpt-512", 4, 512, 8, vocab=256, max_seq=256), 2, 256),
)
"""The first has the sizes of lweitkamp/numpitron's train_shakespeare.py, ffn 4h and tied ends as there; but
GELU for ReLU, learned positions for fixed ones, and norms before attention and MLP rather than after.
"""

NOTE = (
    "NuMPItron itself (NumPy and mpi4py) took 435 to 462 ms for a step of its default model on two ranks, "
    "and 803 to 879 ms on one, when we ran it on a machine with two cores; it is not measured here."
)


def section(effort: Effort, say: Say, *, mpi: bool, jobs: Sequence[Job] = JOBS) -> Section:
    """Measure training steps: forward, backward, clipping, AdamW, in float32."""
    contenders = [products.one_thread(), virtual(RANK, 1), virtual(FREE, 2, "free")]
    contenders += [processes(MPI_2, 2)] * mpi
    rows: list[Row] = []
    others = []
    with Crew(contenders) as crew:
        for job in jobs:
            entries = [
                Entry(job.name, one.name, one.name, "train", job.arguments()) for one in contenders[1:]
            ]
            plans = products.yardstick(crew, say) + prepare(crew, entries, effort, say)
            rounds = take_turns(crew, plans, effort.rounds, say)
            peak = products.peak(rounds)
            for entry in entries:
                timing, cores = rounds.timings[entry.what, entry.who], crew.contenders[entry.who].cores
                rows.append(timed("train", job.name, entry.who, timing, job.flops, speed=peak * cores))
            others.append(rounds.others)
            crew.forget()
    return Section("train", rows, worst(others), (NOTE,))
