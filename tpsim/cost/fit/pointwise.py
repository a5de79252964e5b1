"""Fit the pointwise section: `python -m tpsim.cost.fit.pointwise`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpsim.cost.compare import pointwise as compare
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import halves, report, write_section
from tpsim.cost.pointwise import PointwiseModel
from tpsim.cost.work import Pointwise

SOURCE = (
    "Fitted to measured/h200x2_operators.json (pointwise, small, floor, kv_write) by "
    "tpsim.cost.fit.pointwise. `like` is by analogy, not measured: softmax and the loss walk rows as "
    "rms_norm does, dropout and silu compute as much as gelu, casts, sums and look-ups of whole rows "
    "stream like a copy, rotary reads halves of rows like silu_strided, optimizers stream like an "
    "addition."
)
LIKE = {
    "add_": "add",
    "mul": "add",
    "bias_dropout_add": "add",
    "silu": "gelu",
    "silu.backward": "gelu.backward",
    "dropout": "gelu",
    "dropout.backward": "gelu.backward",
    "softmax": "rms_norm",
    "softmax.backward": "rms_norm",
    "cross_entropy": "rms_norm",
    "cross_entropy.backward": "rms_norm",
    "cast": "copy",
    "fill": "copy",
    "sum": "copy",
    "embedding": "copy",
    "embedding.backward": "strided_copy",
    "rotary": "silu_strided",
    "rotary.backward": "silu_strided",
    "adamw": "add",
}
# What is fitted of each family. A "bandwidth" that stands alone was measured large only: its floor, and how
# much faster it is from the cache, are those of the family that `SMALL_LIKE` names, times its kernels.
STREAM = {"floor": 1.2e-6, "bandwidth": 4e12, "cached": 8e12}
LARGE = {"bandwidth": 2e12}
# Few rows of a norm are read while their blocks walk along them anyway: hardly anything is added.
NORM = {
    "floor": 2e-6,
    "bandwidth": 3.4e12,
    "cached": 3e13,
    "per_column": 6e-10,
    "per_row": 1e-9,
    "reread": 1e-13,
}
NORM_BACKWARD = {"bandwidth": 3e12, "per_row": 3e-9, "reread": 1e-13}
START: dict[str, dict[str, float]] = {
    "add": STREAM,
    "gelu": STREAM,
    "silu_strided": {**STREAM, "scatter": 1e-6},
    "mul_strided": {**STREAM, "scatter": 1e-6},
    "layer_norm": NORM,
    "rms_norm": NORM,
    "layer_norm.backward": NORM_BACKWARD,
    "rms_norm.backward": NORM_BACKWARD,
    "gelu.backward": LARGE,
    "copy": LARGE,
    # The sum of gradients was last touched a step ago: it is never in the cache.
    "grad_accumulate": {"bandwidth": 4e12, "cached": 4e12},
    "silu_mul": LARGE,
    "silu_mul.backward": LARGE,
    "strided_copy": LARGE,
    "cat": LARGE,
    "transpose": LARGE,
    "kv_write": {"floor": 1e-6, "scatter": 1e-6},
}
SMALL_LIKE = {
    "layer_norm.backward": ("layer_norm", 1),
    "rms_norm.backward": ("rms_norm", 1),
    "gelu.backward": ("gelu", 1),
    "copy": ("add", 1),
    "grad_accumulate": ("add", 1),
    "silu_mul": ("silu_strided", 2),
    "silu_mul.backward": ("silu_strided", 5),
    "strided_copy": ("silu_strided", 1),
    "cat": ("silu_strided", 1),
    "transpose": ("silu_strided", 1),
    "kv_write": ("add", 1),
}
SHARED = {"gap": 8e-7, "cache": 3e7, "row_cache": 5000.0}


def section(cases: Sequence[Case[Pointwise]]) -> dict[str, Any]:
    """Return the section, fitted to these rows."""
    keys = [(family, key) for family, values in START.items() for key in values]
    start = [*SHARED.values(), *(START[family][key] for family, key in keys)]

    def build(numbers: Array) -> dict[str, Any]:
        shared = dict(zip(SHARED, map(float, numbers), strict=False))
        families: dict[str, dict[str, float]] = {family: {} for family in START}
        for (family, key), number in zip(keys, numbers[len(SHARED) :], strict=True):
            families[family][key] = float(number)
        for family, (model, kernels) in SMALL_LIKE.items():
            families[family] = _complete(families[family], families[model], kernels)
        return {**shared, "families": families, "like": LIKE}

    def predict(numbers: Array) -> Array:
        return _microseconds(PointwiseModel.from_dict(build(numbers)), cases)

    measured = np.array([c.measured_us for c in cases])
    return build(fit(predict, measured, np.array(start)))


def _complete(family: dict[str, float], model: dict[str, float], kernels: int) -> dict[str, float]:
    """Fill in what was not measured of a family from one that resembles it."""
    bandwidth = family.get("bandwidth", model["bandwidth"])
    small = {
        "floor": kernels * model["floor"],
        "bandwidth": bandwidth,
        "cached": bandwidth * model["cached"] / model["bandwidth"],
        "per_column": kernels * model.get("per_column", 0.0),
        "scatter": kernels * model.get("scatter", 0.0),
    }
    return {**small, **family}


def _microseconds(model: PointwiseModel, cases: Sequence[Case[Pointwise]]) -> Array:
    return np.array([1e6 * model.seconds(c.work, graph=c.graph) for c in cases])


def _price(fitted_to: Sequence[Case[Pointwise]], cases: Sequence[Case[Pointwise]]) -> list[Row]:
    times = _microseconds(PointwiseModel.from_dict(section(fitted_to)), cases)
    return [Row(c.group, c.what, c.measured_us, float(t)) for c, t in zip(cases, times, strict=True)]


if __name__ == "__main__":
    everything = compare.cases()
    write_section("pointwise", section(everything), SOURCE)
    report(_price(everything, everything), halves(everything, _price))
