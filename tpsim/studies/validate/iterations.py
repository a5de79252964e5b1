"""Iteration times that were measured, against prices of dry runs of the layers.

References
----------
Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models": table 3 (models),
table 5 (times, on A100).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpsim.cost.hardware import Hardware, load
from tpsim.studies.validate.activations import config_of
from tpsim.studies.validate.comparison import Comparison, published
from tpsim.studies.validate.pipeline import Job, iteration

MODES: dict[str, dict[str, Any]] = {
    "full_recompute": {"recompute": "full"},
    "sp_selective": {"recompute": "selective", "sequence_parallel": True},
}
"""The columns of table 5, as options of a job."""


@dataclass(frozen=True)
class Run:
    """One of the eight: a model, a column of the table, what was run, and the seconds that it took."""

    model: str
    mode: str
    job: Job
    seconds: float


def runs() -> Iterator[Run]:
    """Yield the eight runs, without sequence parallelism and with it for each model."""
    measured = {row["name"]: row for row in published()["korthikanti2022_table5_measured"]}
    for model in published()["korthikanti2022_models"]:
        for mode, options in MODES.items():
            pipelines = model["gpus"] // (model["tp"] * model["pp"])
            job = Job(
                config=config_of(model),
                tp=model["tp"],
                pp=model["pp"],
                dp=pipelines,
                interleave=model["interleave"],
                microbatch=model["microbatch"],
                microbatches=model["global_batch"] // model["microbatch"] // pipelines,
                seq=model["seq"],
                **options,
            )
            yield Run(model["name"], mode, job, measured[model["name"]][f"{mode}_s"])


def table_5(hardware: Hardware | None = None) -> Iterator[Comparison]:
    """Compare the eight iteration times, with one profile (the a100's) for all of them."""
    hardware = hardware or load("a100")
    for run in runs():
        ours = iteration(run.job, hardware).total
        yield Comparison("table 5: time of an iteration", f"{run.model}, {run.mode}", run.seconds, ours, "s")
