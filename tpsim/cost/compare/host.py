"""Measured host times of calls."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from tpsim.cost.compare.case import Row
from tpsim.cost.host import HostModel
from tpsim.cost.measured import operators

# What the file calls a call, and what it is called here.
NAMES = {"copy_": "copy", "sdpa": "attention", "view_split_permute": "view", "add_": "add"}
# Gradients that one backward of a single call adds up: of its inputs and of its parameters.
ACCUMULATED = {"linear": 2, "add": 2, "gelu": 1, "layer_norm": 3, "rms_norm": 2, "attention": 3, "apply": 1}


def forward() -> dict[tuple[str, str], float]:
    """Return the measured microseconds by (call, mode), no_grad and recorded."""
    found = {}
    for row in operators()["host"]:
        call, mode = row["op"].split(".")
        call = NAMES.get(call, call)
        if mode != "forward_backward_accumulate":
            found[call, mode.removeprefix("forward_")] = row["us_host"]
    return found


def whole() -> dict[str, float]:
    """Return the measured microseconds of forward, backward and accumulation together, by call."""
    rows = ([*row["op"].split("."), row["us_host"]] for row in operators()["host"])
    return {NAMES.get(call, call): us for call, mode, us in rows if mode == "forward_backward_accumulate"}


def beside_kernels() -> dict[str, float]:
    """Return the median host microseconds of calls that were timed beside their kernels, by name.

    Those of backward include the start of autograd.
    """
    found = defaultdict(list)
    measured = operators()
    for row in measured["pointwise"]:
        found[NAMES.get(row["op"], row["op"])].append(row["us_host"])
    for row in measured["attention"]:
        found["attention" if row["pass"] == "forward" else "attention.backward"].append(row["us_host"])
    for row in measured["collective"]:
        found[row["op"]].append(row["us_host"])
    for row in measured["gemm"]:
        found["linear"].append(row["us_host"])
    return {name: median(times) for name, times in found.items()}


def in_turn() -> list[float]:
    """Return how much longer a product and a collective in turn took to issue than each by itself, by row."""
    return [
        row["us_host_chain"] / (row["us_host_gemm"] + row["us_host_coll"])
        for row in operators()["chain"]
        if "us_host_chain" in row
    ]


def rows(model: HostModel) -> list[Row]:
    """Return measured against modelled."""
    issued = [
        Row(
            "host, forward",
            f"{call} {mode}",
            us,
            1e6 * model.seconds(call, "recorded" if mode == "recorded" else "no_grad"),
        )
        for (call, mode), us in forward().items()
    ]
    return issued + [
        Row("host, forward and backward", call, us, 1e6 * _whole(model, call)) for call, us in whole().items()
    ]


def _whole(model: HostModel, call: str) -> float:
    kernels = 2 if call == "linear" else 1
    accumulate = ACCUMULATED[call] * model.seconds("grad_accumulate", "backward")
    return (
        model.seconds(call, "recorded") + model.start + kernels * model.seconds(call, "backward") + accumulate
    )
