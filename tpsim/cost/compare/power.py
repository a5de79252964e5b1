"""The measured throttle curves: how long one large product takes, by how long the device has been busy."""

from __future__ import annotations

from typing import Any

from tpsim.cost.compare.case import Row
from tpsim.cost.gemm import GemmModel
from tpsim.cost.measured import operators
from tpsim.cost.power import Demand, PowerModel
from tpsim.cost.work import Gemm

PRODUCT = Gemm(8192, 8192, 8192)
_COPY = 1e-3  # seconds of one of the copies between products, from the differences of the busy times
_SECOND_CAP = 0.8  # seconds; a slower controller then cuts in for a moment, which is not modelled


def rows(gemm: GemmModel, power: PowerModel) -> list[Row]:
    """Return measured against modelled time of one product, for each stretch of busy time."""
    return [row for curve in curves() for row in stretches(curve, gemm, power)]


def curves() -> list[dict[str, Any]]:
    """Return the measured curves: after rests of several lengths, some with copies between the products."""
    measured: list[dict[str, Any]] = operators()["throttle"]
    return measured


def demand(gemm: GemmModel, copies_per_product: float) -> Demand:
    """Return what one of the products asks, with its share of copies at the full bandwidth."""
    copies = copies_per_product * _COPY
    product = Demand.of(
        lambda clock: gemm.seconds(PRODUCT, clock=clock),
        matmul=gemm.matmul_seconds(PRODUCT),
        memory=gemm.memory_seconds(PRODUCT),
    )
    return product + Demand(other=copies, memory=copies)


def stretches(curve: dict[str, Any], gemm: GemmModel, power: PowerModel) -> list[Row]:
    """Return the rows of one curve: price each stretch by the share of it before the clock falls.

    The first stretch is left out: in it the clock still climbs from that of an idle device.
    """
    asked = demand(gemm, curve["copies_per_40_gemms"] / 40)
    boost = power.boost_seconds(asked, rest=curve["idle_before_s"])
    steady = power.steady_clock(asked)
    ends = [ms / 1e3 for ms in curve["busy_ms"]]
    priced = []
    for begin, end, tflops in zip(ends, ends[1:], curve["tflops"][1:], strict=False):
        if end > _SECOND_CAP:
            break
        at_boost = min(max(boost - begin, 0.0), end - begin) / (end - begin)
        clock = at_boost + (1 - at_boost) * steady
        what = f"{curve['case']}, {curve['copies_per_40_gemms']} copies, {1e3 * end:.0f} ms"
        measured = PRODUCT.flops / tflops / 1e6
        priced.append(Row("power, throttle curve", what, measured, 1e6 * gemm.seconds(PRODUCT, clock=clock)))
    return priced
