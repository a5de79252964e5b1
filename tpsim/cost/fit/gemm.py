"""Fit the gemm section: `python -m tpsim.cost.fit.gemm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpsim.cost.compare import gemm as compare
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import halves, report, write_section
from tpsim.cost.gemm import GemmModel
from tpsim.cost.work import Gemm

SOURCE = (
    "Fitted to measured/h200x2_operators.json (gemm, skinny) by tpsim.cost.fit.gemm. processors: data sheet. "
    "rate: bfloat16 fitted, the others by the data sheet's ratios. tiles, splits: those of the library's "
    "usual ones without which the fit gets worse."
)
# Dense, of the data sheet: relative to bfloat16.
RELATIVE_RATE = {
    "bfloat16": 1.0,
    "float16": 1.0,
    "float8_e4m3fn": 1979 / 989,
    "float8_e5m2": 1979 / 989,
    "tf32": 494 / 989,
    "float32": 67 / 989,
}
FIXED: dict[str, Any] = {
    "processors": 132,
    "tiles": [[128, 16], [128, 32], [128, 64], [128, 128], [192, 128], [256, 128], [320, 128]],
    "splits": [1, 2, 3, 4, 8],
}
START = {
    "rate": 8.6e14,
    "load": 2e11,
    "bandwidth": 4.2e12,
    "tile_start": 1e-6,
    "tile_end": 2.5e-11,
    "reduce": 3e-6,
    "overlap": 3.5,
    "gap": 2.5e-6,
    "graph_gap": 2.4e-6,
}
CAPPED = 0.83  # start of the clock of hot rows, which belongs to the power section


def section(cases: Sequence[Case[Gemm]]) -> tuple[dict[str, Any], float]:
    """Return the section fitted to these rows, and the relative clock of the hot ones among them."""

    def predict(numbers: Array) -> Array:
        return _microseconds(_named(numbers), float(numbers[-1]), cases)

    measured = np.array([case.measured_us for case in cases])
    best = fit(predict, measured, np.array([*START.values(), CAPPED]))
    return _named(best), float(best[-1])


def _named(numbers: Array) -> dict[str, Any]:
    values = dict(zip(START, map(float, numbers[:-1]), strict=True))
    rates = {dtype: share * values["rate"] for dtype, share in RELATIVE_RATE.items()}
    return {**FIXED, **values, "rate": rates}


def _microseconds(values: dict[str, Any], capped: float, cases: Sequence[Case[Gemm]]) -> Array:
    model = GemmModel.from_dict(values)
    clocks = [capped if case.heat else 1.0 for case in cases]
    times = [model.seconds(c.work, clock=k, graph=c.graph) for c, k in zip(cases, clocks, strict=True)]
    return 1e6 * np.array(times)


def _price(fitted_to: Sequence[Case[Gemm]], cases: Sequence[Case[Gemm]]) -> list[Row]:
    times = _microseconds(*section(fitted_to), cases)
    return [Row(c.group, c.what, c.measured_us, float(t)) for c, t in zip(cases, times, strict=True)]


if __name__ == "__main__":
    everything = compare.cases()
    write_section("gemm", section(everything)[0], SOURCE)
    report(_price(everything, everything), halves(everything, _price))
