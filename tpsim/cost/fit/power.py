"""Fit the power section, which needs that of gemm: `python -m tpsim.cost.fit.power`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tpsim.cost.compare import gemm as products
from tpsim.cost.compare import power as compare
from tpsim.cost.compare.case import Row
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import PROFILES, halves, report, write_section
from tpsim.cost.gemm import GemmModel
from tpsim.cost.power import PowerModel

SOURCE = (
    "memory_watts, window, capped: fitted to measured/h200x2_operators.json (throttle, and the hot rows of "
    "gemm) by tpsim.cost.fit.power; matmul_watts follows from them. limit: data sheet. exponent: frequency "
    "times voltage squared. idle: assumed; it sets the scale of the other watts and changes no clock. "
    "lowest: lowest clock seen, 1125 of 1980 MHz."
)
FIXED = {"limit": 700.0, "idle": 120.0, "exponent": 3.0, "lowest": 1125 / 1980}
START = {"memory_watts": 350.0, "window": 0.05}

Curve = dict[str, Any]


def section(gemm: GemmModel, curves: Sequence[Curve]) -> dict[str, float]:
    """Return the section: the clock of hot products first, then the balance that leads there."""
    capped = _capped(gemm)

    def rows(numbers: Array) -> list[Row]:
        return _rows(gemm, PowerModel.from_dict(_named(gemm, numbers, capped)), curves)

    start = np.array([*START.values()])
    measured = np.array([row.measured_us for row in rows(start)])
    best = fit(lambda numbers: np.array([row.modelled_us for row in rows(numbers)]), measured, start)
    return _named(gemm, best, capped)


def _named(gemm: GemmModel, numbers: Array, capped: float) -> dict[str, float]:
    """Return the section, with the watts of products that hold them, alone, at the clock of the hot rows."""
    values = {**FIXED, **dict(zip(START, map(float, numbers), strict=True)), "capped": capped}
    alone = compare.demand(gemm, copies_per_product=0.0)
    left = (values["limit"] - values["idle"]) * alone.seconds(capped) - values["memory_watts"] * alone.memory
    return {**values, "matmul_watts": left / (alone.matmul * capped ** (values["exponent"] - 1))}


def _capped(gemm: GemmModel) -> float:
    """Return the relative clock at which the hot products take what they took."""
    hot = [case for case in products.cases() if case.group == "gemm, hot"]

    def predict(numbers: Array) -> Array:
        return np.array([1e6 * gemm.seconds(case.work, clock=float(numbers[0])) for case in hot])

    return float(fit(predict, np.array([case.measured_us for case in hot]), np.array([0.85]))[0])


def _price(gemm: GemmModel, fitted_to: Sequence[Curve], curves: Sequence[Curve]) -> list[Row]:
    return _rows(gemm, PowerModel.from_dict(section(gemm, fitted_to)), curves)


def _rows(gemm: GemmModel, power: PowerModel, curves: Sequence[Curve]) -> list[Row]:
    return [row for curve in curves for row in compare.stretches(curve, gemm, power)]


if __name__ == "__main__":
    h200 = json.loads((PROFILES / "h200.json").read_text(encoding="utf-8"))
    price = partial(_price, GemmModel.from_dict(h200["gemm"]))
    everything = compare.curves()
    write_section("power", section(GemmModel.from_dict(h200["gemm"]), everything), SOURCE)
    report(price(everything, everything), halves(everything, price))
