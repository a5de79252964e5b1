"""Fit the sections of a machine's profile to what `tpsim calibrate` measured on it.

The same models as a GPU's, with other meanings: a rank has one core, so a product has one processor whose
tiles are those of the BLAS's inner loops; a pass over arrays has a floor of Python and NumPy, and a cache;
a message has the floor of its Python.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tpsim.cost.fit.nonnegative import Array, nonnegative
from tpsim.cost.fit.search import fit
from tpsim.cost.gemm import GemmModel
from tpsim.cost.pointwise import Family, PointwiseModel
from tpsim.cost.work import Collective, Gemm, Pointwise, Work

_FASTEST = 1e15  # bytes a second: of what takes no time that could be seen
_CACHES = [2.0**power for power in range(17, 28)]  # bytes


class Point(NamedTuple):
    """A work and the seconds that it took."""

    work: Work
    seconds: float


# --- products -----------------------------------------------------------------------------------------------

_GEMM_START = {
    "load": 1e12,
    "bandwidth": 1e10,
    "tile_start": 2e-8,
    "tile_end": 1e-10,
    "overlap": 1.2,
    "gap": 2e-6,
}


def gemm_section(points: Sequence[Point]) -> dict[str, Any]:
    """Return the section of products, from points of `Gemm` in one dtype or more."""
    works = [point.work for point in points if isinstance(point.work, Gemm)]
    measured = np.array([point.seconds for point in points])
    best: dict[str, float] = {}
    for work, seconds in zip(works, measured, strict=True):
        best[work.dtype] = max(best.get(work.dtype, 0.0), work.flops / seconds)

    def named(numbers: Array) -> dict[str, Any]:
        rates, rest = numbers[: len(best)], numbers[len(best) :]
        values: dict[str, Any] = dict(zip(_GEMM_START, map(float, rest), strict=True))
        return {
            "processors": 1,
            "tiles": [[16, 16]],
            "splits": [1],
            "step": 4,
            "rate": dict(zip(best, map(float, rates), strict=True)),
            **values,
            "reduce": 0.0,
            "graph_gap": values["gap"],
        }

    def predict(numbers: Array) -> Array:
        model = GemmModel.from_dict(named(numbers))
        return np.array([model.seconds(work, graph=True) for work in works])

    start = np.array([*best.values(), *_GEMM_START.values()])
    return named(fit(predict, measured, start))


# --- passes over arrays -------------------------------------------------------------------------------------


def pointwise_section(points: Sequence[Point]) -> dict[str, Any]:
    """Return the section of passes over arrays, from points of `Pointwise`, "add" among them.

    Each family has its own numbers; the cache is the one with which all of them fit best.
    """
    families: dict[str, list[tuple[Pointwise, float]]] = defaultdict(list)
    for work, seconds in points:
        assert isinstance(work, Pointwise)
        families[work.name].append((work, seconds))

    def at(cache: float) -> tuple[float, dict[str, Any]]:
        fitted, off = {}, 0.0
        for name, measured in families.items():
            terms = np.array([_terms(work, cache) for work, _ in measured])
            seconds = np.array([second for _, second in measured])
            numbers = _fit_family(terms, seconds)
            off += float(np.log1p(((terms @ numbers / seconds - 1) / 0.1) ** 2).sum())
            fitted[name] = _family(*map(float, numbers))
        return off, {"cache": cache, "families": fitted}

    _, best = min((at(cache) for cache in _CACHES), key=lambda tried: tried[0])
    return {"gap": 0.0, "row_cache": 1e9, **best, "like": {}}


def _fit_family(terms: Array, seconds: Array) -> Array:
    """Return seconds: at least, a byte, a byte more where it misses the cache, a row."""
    terms = terms.copy()
    if terms[:, 2].max() < terms[:, 1].max() / 2:
        terms[:, 2] = 0.0  # it all lay in the cache: nothing is known of what would not
    numbers = nonnegative(terms, seconds)
    if not numbers[1]:  # bytes do take time; here they can't be told from rows
        terms[:, 3] = 0.0
        numbers = nonnegative(terms, seconds)
    return numbers


def _terms(work: Pointwise, cache: float) -> list[float]:
    """Return what the model multiplies a floor, and seconds a byte, a missing byte and a row with."""
    missing = Family(floor=0.0, bandwidth=1.0, cached=math.inf)
    missed = PointwiseModel(0.0, cache, 1e9, {"add": missing}, {}).seconds(work, graph=True)
    return [1.0, work.nbytes, missed, work.rows]


def _family(floor: float, cached: float, missed: float, row: float) -> dict[str, float]:
    """Return a family's fields from the numbers of `_fit_family`."""
    inside = max(cached, 1 / _FASTEST)
    return {
        "floor": floor,
        "bandwidth": 1 / (inside + missed),
        "cached": 1 / inside,
        "per_row": row,
    }


# --- collectives --------------------------------------------------------------------------------------------

_STEPS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "broadcast": 1}


def collective_section(points: Sequence[Point]) -> dict[str, Any]:
    """Return the section of collectives: seconds to begin, and of a step, and bytes a second by operation.

    What lies beyond one machine was not measured, and is taken to be like what lies inside.
    """
    works = [point.work for point in points if isinstance(point.work, Collective)]
    operations = sorted({work.operation for work in works}, key=list(_STEPS).index)
    terms = np.zeros((len(works), 2 + len(operations)))
    for row, work in zip(terms, works, strict=True):
        rounds = _STEPS[work.operation]
        steps = rounds * (work.ranks - 1)
        share = 1.0 if work.operation == "broadcast" else (work.ranks - 1) / work.ranks
        row[:2] = 1.0, steps
        row[2 + operations.index(work.operation)] = rounds * share * work.nbytes
    base, hop, *per_byte = nonnegative(terms, np.array([point.seconds for point in points]))
    rates = {
        operation: 1 / max(float(s), 1 / _FASTEST) for operation, s in zip(operations, per_byte, strict=True)
    }
    whole = rates["all_reduce"]
    hops = dict.fromkeys(("ring_hop", "tree_hop", "ring_network_hop", "tree_network_hop"), float(hop))
    return {
        "bandwidth": whole,
        "few": 0.0,
        "network": whole,
        "protocols": {"messages": {"base": float(base), **hops, "share": 1.0, "until": None}},
        "operations": {operation: rate / whole for operation, rate in rates.items()},
        "tree": 1.0,
        "switch": None,
        "gap": 0.0,
        "wake": 0.0,
    }


# --- the rest -----------------------------------------------------------------------------------------------


def attention_section(gemm: dict[str, Any], pointwise: dict[str, Any]) -> dict[str, Any]:
    """Return the section of fused attention, which NumPy has not: products and softmax as if in one pass.

    What a fused kernel would save is not known, so that it costs what the pieces do.
    """
    rate = max(gemm["rate"].values())
    softmax, add = pointwise["families"].get("softmax"), pointwise["families"]["add"]
    score = 8 / (softmax or add)["cached"]  # seconds; a float32 is read, and one is written
    kernel = {
        "launch": add["floor"],
        "rate": 2 * rate,  # of two-byte operands
        "softmax": score * rate / 2,
        "prologue": 0.0,
        "tail": 0.0,
        "passes": 0.0,
        "head_multiple": 1,
    }
    return {
        "processors": 1,
        "tile": 16,
        "gap": 0.0,
        "default": "numpy",
        "bandwidth": add["bandwidth"],
        "kernels": {"numpy": {"forward": kernel, "backward": kernel}},
        "decode": {"launch": add["floor"], "per_key": 0.0, "queries": 1},
    }


POWER = {
    "limit": 1.0,
    "idle": 0.0,
    "matmul_watts": 0.0,
    "memory_watts": 0.0,
    "exponent": 3.0,
    "window": 1.0,
    "lowest": 1.0,
    "capped": 0.5,
}
"""No limit that is ever reached: the clock was what it was while the calls were timed."""

HOST = {"calls": {"generic": {"no_grad": 0.0}}, "start": 0.0}
"""There is no second processor that issues calls."""
