"""FLOPs and messages of the papers' formulas, against dry runs of the layers.

References
----------
Narayanan et al. (2021), "Efficient large-scale language model training on GPU clusters using Megatron-LM",
section 3.2 (8bsh(t − 1)/t) and appendix (FLOPs); Korthikanti et al. (2022), appendix A.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpsim.models.config import gpt
from tpsim.studies.dry_run import Plan, dry_block, dry_step
from tpsim.studies.estimate import model_flops
from tpsim.studies.validate.activations import config_of
from tpsim.studies.validate.comparison import Comparison, published


def traffic_formula(*, b: int, s: int, h: int, t: int) -> float:
    """Return the elements that a rank sends for a layer and microbatch, both passes."""
    return 8 * b * s * h * (t - 1) / t


def traffic_of_a_layer(*, a: int, b: int, s: int, h: int, t: int) -> float:
    """Return the same of a dry run of the layers."""
    plan = Plan(config=gpt("one layer", 1, h, a, max_seq=s, vocab=64), tp=t, batch=b, seq=s)
    return sum(event.bytes_sent for event in dry_block(plan).collectives) / 2  # of 2 bytes each


def flops_formula(*, b: int, L: int, s: int, h: int, V: int) -> float:
    """Return the FLOPs of a step's matrix products, on all ranks."""
    return 72 * b * L * s * h * h * (1 + s / (6 * h) + V / (12 * h * L))


def flops_of_a_step(*, b: int, L: int, s: int, h: int, V: int, a: int, t: int) -> int:
    """Return the same of a dry run of the layers."""
    config = gpt("a model", L, h, a, max_seq=s, vocab=V)
    return t * model_flops(dry_step(Plan(config=config, tp=t, batch=b, seq=s)).microbatch)


def traffic() -> Iterator[Comparison]:
    """Compare what a layer sends, for the four models."""
    for model in published()["korthikanti2022_models"]:
        sizes = {"b": model["microbatch"], "s": model["seq"], "h": model["hidden"], "t": model["tp"]}
        yield Comparison(
            "8bsh(t − 1)/t: elements a rank sends for a layer",
            model["name"],
            traffic_formula(**sizes),
            traffic_of_a_layer(a=model["heads"], **sizes),
            "elements",
        )


def flops() -> Iterator[Comparison]:
    """Compare the FLOPs of a microbatch, for the four models."""
    for model in published()["korthikanti2022_models"]:
        config = config_of(model)
        sizes = {
            "b": model["microbatch"],
            "L": config.layers,
            "s": model["seq"],
            "h": config.hidden,
            "V": config.vocab,
        }
        yield Comparison(
            "72bLsh²(1 + s/6h + V/12hL): FLOPs of a microbatch",
            model["name"],
            flops_formula(**sizes),
            flops_of_a_step(a=config.heads, t=model["tp"], **sizes),
            "FLOPs",
        )
