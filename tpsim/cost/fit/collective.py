"""Fit the collective section: `python -m tpsim.cost.fit.collective`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpsim.cost.collective import CollectiveModel
from tpsim.cost.compare import collective as compare
from tpsim.cost.compare.case import Case, Row
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import halves, report, write_section
from tpsim.cost.work import Collective

SOURCE = (
    "base, share, until, bandwidth, operations and wake: fitted to measured/h200x2_operators.json (2 "
    "ranks, NCCL 2.28.9, NVLS off) by tpsim.cost.fit.collective. hops: NCCL's own constants, for NVLink "
    "and a network. few: how bandwidth grows over 2, 4, 8 ranks in a published H100 DGX data set (290, "
    "340, 379 GB/s). tree: NCCL's tuning. network: 400 Gb/s a device. switch: a published peak of 475 "
    "GB/s bus bandwidth on 8 H200 with NVLS, over 2·7/8; its base: alpha of the H100 data set at 8 ranks."
)
# Seconds of a step.
HOPS = {
    "LL": {"ring_hop": 0.6e-6, "tree_hop": 0.6e-6, "ring_network_hop": 2.7e-6, "tree_network_hop": 5e-6},
    "LL128": {"ring_hop": 1.9e-6, "tree_hop": 1.25e-6, "ring_network_hop": 4e-6, "tree_network_hop": 8.5e-6},
    "Simple": {"ring_hop": 3.4e-6, "tree_hop": 4e-6, "ring_network_hop": 14e-6, "tree_network_hop": 14e-6},
}
# Each of 2 ranks was seen to send 1 MiB one way, and 2 MiB the other.
UNTIL = {"LL": 0.95e6, "LL128": 0.95e6, "Simple": None}
FIXED = {
    "few": 0.58,
    "network": 50e9,
    "tree": 0.92,
    "switch": {"base": 42e-6, "bandwidth": 271e9},
    "gap": 0.8e-6,
}
START = {
    ("protocols", "LL", "base"): 6.7e-6,
    ("protocols", "LL", "share"): 0.02,
    ("protocols", "LL128", "base"): 5e-6,
    ("protocols", "LL128", "share"): 0.5,
    ("protocols", "Simple", "base"): 17e-6,
    ("operations", "all_gather"): 0.8,
    ("operations", "reduce_scatter"): 0.8,
    ("operations", "broadcast"): 0.9,
    ("bandwidth",): 440e9,
    ("wake",): 16e-6,
}


def section(cases: Sequence[Case[Collective]]) -> dict[str, Any]:
    """Return the section, fitted to these rows."""
    measured = np.array([c.measured_us for c in cases])

    def build(numbers: Array) -> dict[str, Any]:
        values: dict[str, Any] = {**FIXED, "operations": {"all_reduce": 1.0}, "protocols": {}}
        for name, hops in HOPS.items():
            values["protocols"][name] = {"share": 1.0, **hops, "until": UNTIL[name]}
        for path, number in zip(START, numbers, strict=True):
            part = values
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = float(number)
        return values

    def predict(numbers: Array) -> Array:
        return _microseconds(CollectiveModel.from_dict(build(numbers)), cases)

    return build(fit(predict, measured, np.array(list(START.values()))))


def _microseconds(model: CollectiveModel, cases: Sequence[Case[Collective]]) -> Array:
    return np.array([1e6 * compare.seconds(c, model) for c in cases])


def _price(fitted_to: Sequence[Case[Collective]], cases: Sequence[Case[Collective]]) -> list[Row]:
    times = _microseconds(CollectiveModel.from_dict(section(fitted_to)), cases)
    return [Row(c.group, c.what, c.measured_us, float(t)) for c, t in zip(cases, times, strict=True)]


if __name__ == "__main__":
    everything = compare.cases()
    write_section("collective", section(everything), SOURCE)
    report(_price(everything, everything), halves(everything, _price))
