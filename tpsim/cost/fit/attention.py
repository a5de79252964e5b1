"""Fit the attention section: `python -m tpsim.cost.fit.attention`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpsim.cost.attention import AttentionModel
from tpsim.cost.compare import attention as compare
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import halves, report, write_section
from tpsim.cost.work import Attention

SOURCE = (
    "Fitted to measured/h200x2_operators.json (attention, decode_attention) by tpsim.cost.fit.attention; "
    "rows taken as cool. processors: data sheet. head_multiple: with cuDNN heads of 80 and 96 take as "
    "long as of 128, with flash 80 as 96."
)
FIXED: dict[str, Any] = {"processors": 132, "tile": 128, "gap": 0.8e-6, "default": "cudnn"}
HEAD_MULTIPLE = {"cudnn": 64, "flash": 32}
TILED = {"launch": 5e-6, "rate": 5e12, "softmax": 40.0, "prologue": 1e-6, "tail": 0.65}
BACKWARD = {**TILED, "passes": 5.0}
DECODE = {"launch": 7e-6, "per_key": 1e-10}
QUERIES = 16


def section(cases: Sequence[Case[Attention]]) -> dict[str, Any]:
    """Return the section, fitted to these rows."""
    decode = {**DECODE, "queries": QUERIES}
    values: dict[str, Any] = {**FIXED, "bandwidth": 4.5e12, "kernels": {}, "decode": decode}
    _refine(
        [(values, "bandwidth"), *((decode, key) for key in DECODE)], values, [c for c in cases if c.graph]
    )
    for backend, multiple in HEAD_MULTIPLE.items():
        values["kernels"][backend] = {}
        for direction in ("forward", "backward"):
            chosen = [
                c for c in cases if not c.graph and c.work.direction == direction and _is(c.work, backend)
            ]
            free = BACKWARD if direction == "backward" else TILED
            kernel = {"passes": 0.0, **free, "head_multiple": multiple}
            values["kernels"][backend][direction] = kernel
            _refine([(kernel, key) for key in free], values, chosen)
    return values


def _is(work: Attention, backend: str) -> bool:
    return backend == (FIXED["default"] if work.backend == "default" else work.backend)


def _refine(
    free: list[tuple[dict[str, Any], str]], values: dict[str, Any], cases: list[Case[Attention]]
) -> None:
    """Fit these entries of the section to these rows, in place."""

    def put(numbers: Array) -> None:
        for (part, key), number in zip(free, numbers, strict=True):
            part[key] = float(number)

    def predict(numbers: Array) -> Array:
        put(numbers)
        return _microseconds(AttentionModel.from_dict(values), cases)

    start = np.array([part[key] for part, key in free])
    put(fit(predict, np.array([c.measured_us for c in cases]), start))


def _microseconds(model: AttentionModel, cases: Sequence[Case[Attention]]) -> Array:
    return np.array([1e6 * model.seconds(c.work, clock=1.0, graph=c.graph) for c in cases])


def _price(fitted_to: Sequence[Case[Attention]], cases: Sequence[Case[Attention]]) -> list[Row]:
    times = _microseconds(AttentionModel.from_dict(section(fitted_to)), cases)
    return [Row(c.group, c.what, c.measured_us, float(t)) for c, t in zip(cases, times, strict=True)]


if __name__ == "__main__":
    everything = compare.cases()
    write_section("attention", section(everything), SOURCE)
    report(_price(everything, everything), halves(everything, _price))
