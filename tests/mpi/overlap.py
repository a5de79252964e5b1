"""A language model's step with each overlap: bits and traffic of every rank, the same in every world.

Under mpiexec the script prints them.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np

import tpsim
from tpsim import models
from tpsim.comm import mpi
from tpsim.models import LanguageModel

CONFIG = replace(models.get("tiny-gpt"), vocab=19, layers=1, max_seq=8)
WAYS = [("none", True), ("dw", False), ("dw", True), ("decomposed", True)]


def main(comm: Any, messages: bool | None = None) -> dict[str, Any]:
    group = tpsim.Group(comm, messages=messages)
    return {f"{overlap} {sp}": step(group, overlap, sp) for overlap, sp in WAYS}


def step(group: tpsim.Group, overlap: Any, sequence_parallel: bool) -> list[Any]:
    model = LanguageModel(
        CONFIG, group, sequence_parallel=sequence_parallel, overlap=overlap, rng=np.random.default_rng(1)
    )
    rng = np.random.default_rng(2)
    tokens, targets = rng.integers(0, CONFIG.vocab, (2, 3, 8))
    with tpsim.Trace() as trace:
        loss = model.forward(tokens, targets)
        model.backward(rng.standard_normal(loss.shape).astype(loss.dtype))
    digest = hashlib.blake2b(loss.tobytes(), digest_size=8)
    for parameter in model.parameters().values():
        assert parameter.grad is not None
        digest.update(parameter.grad.tobytes())
    events = [[e.phase, e.layer, e.operation, e.messages, e.bytes_sent] for e in trace.collectives]
    return [digest.hexdigest(), events]


if __name__ == "__main__":
    answers = tpsim.launch(main)
    if mpi.rank_of_job() == 0:
        print(json.dumps(answers))
