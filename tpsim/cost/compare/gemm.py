"""Measured matrix products: of training, cool and hot, and of decode, which stream weights in CUDA graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.cost.compare.case import Case, Row
from tpsim.cost.gemm import GemmModel
from tpsim.cost.measured import operators
from tpsim.cost.power import PowerModel
from tpsim.cost.work import Gemm

_EAGER = "gemm, one call between events"


def cases() -> list[Case[Gemm]]:
    """Return the rows of which the state of the device is known: a fit may use them."""
    measured = operators()
    return [_training(row) for row in measured["gemm"]] + [_skinny(row) for row in measured["skinny"]]


def rows(gemm: GemmModel, power: PowerModel) -> list[Row]:
    """Return measured against modelled, of rows beside collectives and of single calls between events too."""
    measured = operators()
    return (
        [_priced(case, gemm, power) for case in cases()]
        + [_priced(_in_chain(row), gemm, power) for row in measured["chain"]]
        + _between_events([_eager(row, gemm, power) for row in _without_outlier(measured["eager_gemm"])])
    )


def _priced(case: Case[Gemm], gemm: GemmModel, power: PowerModel) -> Row:
    seconds = gemm.seconds(case.work, clock=power.clock(case.heat), graph=case.graph)
    return Row(case.group, case.what, case.measured_us, 1e6 * seconds)


def _words(row: dict[str, Any]) -> str:
    return f"m={row['m']} n={row['n']} k={row['k']}"


def _training(row: dict[str, Any]) -> Case[Gemm]:
    work = Gemm(row["m"], row["n"], row["k"], row["layout"])
    hot = row["state"] == "hot"
    return Case(f"gemm, {row['state']}", f"{row['layout']} {_words(row)}", work, row["us"], heat=float(hot))


def _skinny(row: dict[str, Any]) -> Case[Gemm]:
    """Products bound by FLOPs that take long were repeated for long enough to meet the power limit.

    m=512 n=k=8192 takes 109 µs here, and 90 µs cool and 107 µs hot among the products of training.
    """
    hot = row["m"] >= 256 and row["us_graph"] > 100
    work = Gemm(row["m"], row["n"], row["k"])
    return Case("gemm, skinny, graph", _words(row), work, row["us_graph"], graph=True, heat=float(hot))


def _in_chain(row: dict[str, Any]) -> Case[Gemm]:
    graph = row.get("graph", False)
    group = "gemm, beside a collective" + (", graph" if graph else "")
    work = Gemm(row["m"], row["n"], row["k"])
    return Case(group, _words(row), work, row["us_gemm"], graph=graph, heat=float(row["heavy"]))


def _without_outlier(eager: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in eager if not row["m"] == row["n"] == row["k"] == 1024]


def _eager(row: dict[str, Any], gemm: GemmModel, power: PowerModel) -> Row:
    """The largest square heats the device, and those after it in the file found it hot."""
    cool = row["m"] == row["n"] == row["k"] and row["m"] <= 8192
    case = Case(_EAGER, _words(row), Gemm(row["m"], row["n"], row["k"]), row["us"], heat=float(not cool))
    return _priced(case, gemm, power)


def _between_events(eager: list[Row]) -> list[Row]:
    """Add two events and a launch from an empty queue: one number for all rows, their median difference."""
    events = float(np.median([row.measured_us - row.modelled_us for row in eager]))
    return [Row(row.group, row.what, row.measured_us, row.modelled_us + events) for row in eager]
