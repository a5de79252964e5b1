"""Activation memory, FLOPs and traffic of the papers, against dry runs of the layers.

The formulas stand here, where they are tests; nothing that tpsim estimates is computed from them.

References
----------
Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models": table 2,
figures 1 and 7, and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tpsim.cost.memory import MIXES
from tpsim.models import ModelConfig
from tpsim.models.config import gpt
from tpsim.studies.dry_run import Plan, dry_step
from tpsim.studies.validate.comparison import Comparison, published
from tpsim.trace import Trace

GiB = 1 << 30

MODES: dict[str, dict[str, Any]] = {
    "none": {"tp": 1},
    "tp": {},
    "sp": {"sequence_parallel": True},
    "selective": {"recompute": "selective"},
    "sp_selective": {"sequence_parallel": True, "recompute": "selective"},
    "full": {"recompute": "full"},
}
"""The rows of table 2, as options of a plan."""


def formula(mode: str, *, a: int, s: int, b: int, h: int, t: int) -> float:
    """Return the bytes that table 2 gives for one layer in 16 bits with dropout."""
    sbh, scores = s * b * h, 5 * a * s / h
    return {
        "none": sbh * (34 + scores),
        "tp": sbh * (10 + 24 / t + scores / t),
        "sp": sbh / t * (34 + scores),
        "selective": sbh * (10 + 24 / t),
        "sp_selective": sbh * 34 / t,
        "full": sbh * 2.0,
    }[mode]


def of_a_layer(mode: str, *, a: int, s: int, b: int, h: int, t: int) -> int:
    """Return the bytes that a dry run of the layers saves in one block; arguments as for `formula`."""
    config = gpt("one layer", 1, h, a, max_seq=s, vocab=64)
    plan = Plan(config=config, tp=t, batch=b, seq=s, dtype="float16", dropout=0.1, attention_dropout=0.1)
    return saved_by_blocks(dry_step(replace(plan, **MODES[mode])).microbatch)


def saved_by_blocks(trace: Trace) -> int:
    """Return the activations that forward kept in the blocks, without those of the two ends."""
    return sum(nbytes for layer, nbytes in trace.saved_by_layer().items() if layer.startswith("blocks."))


def table_2() -> Iterator[Comparison]:
    """Compare every row of table 2 for the four models of table 3."""
    for model in published()["korthikanti2022_models"]:
        sizes = _sizes(model)
        for mode in MODES:
            yield Comparison(
                "table 2: activations of a layer",
                f"{model['name']}, {mode}",
                formula(mode, **sizes),
                of_a_layer(mode, **sizes),
                "bytes",
            )


def figure_1() -> Iterator[Comparison]:
    """Compare the activations of the first pipeline stage, in GiB.

    It keeps as many layers' activations as the model has layers, L, for L/p of its own and p microbatches
    in flight; L(1 + (p − 1)/(pm)) with an interleaved schedule of m chunks (section 4.2.3).
    """
    models = {model["name"]: model for model in published()["korthikanti2022_models"]}
    for bar in published()["korthikanti2022_fig1_analytic_GiB"]:
        model = models[bar["name"]]
        p, m, layers = model["pp"], model["interleave"], model["layers"]
        factor = layers * (1 + (p - 1) / (p * m)) if m > 1 else layers
        for key, mode in (("activations_tp", "tp"), ("activations_sp_selective", "sp_selective")):
            ours = of_a_layer(mode, **_sizes(model)) * factor / GiB
            yield Comparison("figure 1: activations", f"{bar['name']}, {mode}", bar[key], ours, "GiB")


def figure_1_state() -> Iterator[Comparison]:
    """Compare parameters and optimizer state, 18 bytes a parameter, of a stage's blocks alone."""
    models = {model["name"]: model for model in published()["korthikanti2022_models"]}
    for bar in published()["korthikanti2022_fig1_analytic_GiB"]:
        model = models[bar["name"]]
        one_layer = replace(config_of(model), layers=1)
        trace = dry_step(Plan(config=one_layer, tp=model["tp"], seq=model["seq"])).microbatch
        blocks = sum(math.prod(p.shape) for p in trace.parameters if p.name.startswith("blocks."))
        ours = MIXES["megatron"].total * blocks * model["layers"] / model["pp"] / GiB
        yield Comparison(
            "figure 1: parameters and optimizer", bar["name"], bar["parameters_and_optimizer"], ours, "GiB"
        )


def figure_7() -> Iterator[Comparison]:
    """Compare activations as a share of plain tensor parallelism's, in percent (read off bars)."""
    models = {model["name"]: model for model in published()["korthikanti2022_models"]}
    for bar in published()["korthikanti2022_fig7_analytic_percent_of_tp"]:
        sizes = _sizes(models[bar["name"]])
        whole = of_a_layer("tp", **sizes)
        for mode in ("sp", "selective", "sp_selective", "full"):
            ours = 100 * of_a_layer(mode, **sizes) / whole
            yield Comparison("figure 7: share of TP", f"{bar['name']}, {mode}", bar[mode], ours, "%")


def config_of(model: dict[str, Any]) -> ModelConfig:
    """Return the configuration of one of the paper's models."""
    return gpt(
        model["name"],
        model["layers"],
        model["hidden"],
        model["heads"],
        vocab=model["vocab"],
        max_seq=model["seq"],
    )


def _sizes(model: dict[str, Any]) -> dict[str, int]:
    return {
        "a": model["heads"],
        "s": model["seq"],
        "b": model["microbatch"],
        "h": model["hidden"],
        "t": model["tp"],
    }
