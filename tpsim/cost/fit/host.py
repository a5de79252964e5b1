"""Derive the host section from measured calls: `python -m tpsim.cost.fit.host`.

A measured backward of one call is the start of autograd, the issue of its kernels, and the accumulation of
each gradient. Rows that differ only in one of these tell them apart; medians do, for hosts are noisy.
"""

from __future__ import annotations

from statistics import median
from typing import Any, TypeAlias

from tpsim.cost.compare import host as compare
from tpsim.cost.fit.section import report, write_section
from tpsim.cost.host import HostModel

SOURCE = (
    "Derived from measured/h200x2_operators.json (host; us_host of pointwise, collective and chain) by "
    "tpsim.cost.fit.host, medians. What autograd adds to a recorded call that was only timed without it, "
    "and the backward of a call that was only timed forward, are those of the calls that were timed both "
    "ways. turns: a product and a collective in turn, against each by itself. The CPU of that machine."
)
# Kernels that backward issues, where it is not one; an addition's gradient is dy itself.
KERNELS = {"linear": 2, "layer_norm": 2, "rms_norm": 2, "add": 0}
# Calls timed beside their kernels alone, and the rows they were timed in.
BESIDE = {"silu_mul": "silu_mul", "strided_copy": "sbnd_to_bnsd", "cat": "cat_qkv"}
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
TWICE = ("gelu", "layer_norm", "rms_norm")  # backward was timed with accumulation and without

Calls: TypeAlias = dict[str, dict[str, float]]


def section() -> dict[str, Any]:
    """Return the section, in seconds."""
    beside, node = compare.beside_kernels(), _node()
    calls, start = _timed_both_ways()
    for (call, mode), us in compare.forward().items():
        if mode == "no_grad" and call not in calls:
            calls[call] = {"no_grad": us, "recorded": us + node, "backward": us + node}
    for call, row in BESIDE.items():
        us, alone = beside[row], beside.get(f"{call}.backward")
        calls[call] = {
            "no_grad": us,
            "recorded": us + node,
            "backward": alone - start if alone else us + node,
        }
    for call in COLLECTIVES:  # autograd sees nothing of it, only the Python function that calls it
        calls[call] = dict.fromkeys(("no_grad", "recorded", "backward"), beside[call])
    calls["bmm"] = calls["linear"]
    simple = [calls[call] for call in ("add", "gelu", "copy")]
    calls["generic"] = {mode: median(c[mode] for c in simple) for mode in ("no_grad", "recorded", "backward")}
    seconds = {call: {mode: us * 1e-6 for mode, us in modes.items()} for call, modes in calls.items()}
    return {"calls": seconds, "start": start * 1e-6, "turns": median(compare.in_turn())}


def _node() -> float:
    """Return what autograd adds to a call that it records."""
    forward = compare.forward()
    return median(forward[call, "recorded"] - forward[call, "no_grad"] for call in compare.whole())


def _timed_both_ways() -> tuple[Calls, float]:
    """Return the calls whose backward was timed, and the start of autograd."""
    forward, whole, beside, node = compare.forward(), compare.whole(), compare.beside_kernels(), _node()
    backward = {call: whole[call] - forward[call, "recorded"] for call in whole}
    accumulate = median(
        (backward[call] - beside[f"{call}.backward"]) / compare.ACCUMULATED[call] for call in TWICE
    )
    # Start and issue, without accumulation: two estimates where there are two.
    bare = {call: [us - compare.ACCUMULATED[call] * accumulate] for call, us in backward.items()}
    for call in TWICE:
        bare[call].append(beside[f"{call}.backward"])
    # No less than as many forward calls as it issues kernels.
    least = {call: node + KERNELS.get(call, 1) * forward[call, "no_grad"] for call in whole}
    start = median(us - least[call] for call, estimates in bare.items() for us in estimates)

    calls: Calls = {"grad_accumulate": {"no_grad": beside["grad_accumulate"], "backward": accumulate}}
    for call, estimates in bare.items():
        issue = max(sum(estimates) / len(estimates) - start, least[call])
        calls[call] = {
            "no_grad": forward[call, "no_grad"],
            "recorded": forward[call, "recorded"],
            "backward": issue / (2 if call == "linear" else 1),  # two launches, dX and dA
        }
    return calls, start


if __name__ == "__main__":
    values = section()
    write_section("host", values, SOURCE)
    report(compare.rows(HostModel.from_dict(values)), [])
