"""Operators that were measured on two H200s, against the prices of the h200 profile."""

from __future__ import annotations

from collections.abc import Iterator

from tpsim.cost.compare import attention, collective, gemm, host, pointwise, power
from tpsim.cost.hardware import load
from tpsim.studies.validate.comparison import Comparison


def h200() -> Iterator[Comparison]:
    """Compare every measured row."""
    models = load("h200")
    for row in (
        *gemm.rows(models.gemm, models.power),
        *attention.rows(models.attention),
        *pointwise.rows(models.pointwise, models.host),
        *collective.rows(models.collective),
        *host.rows(models.host),
        *power.rows(models.gemm, models.power),
    ):
        yield Comparison(row.group, row.what, row.measured_us, row.modelled_us, "µs")
