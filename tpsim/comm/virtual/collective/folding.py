"""Collectives that reduce: x0 + x1 + x2 + …, always in rank order, so that every run gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import CollectiveMismatchError
from tpsim.comm.virtual.collective.exchange import Nothing
from tpsim.comm.virtual.collective.measure import check_arrived
from tpsim.comm.virtual.collective.part import Part

Array = NDArray[Any]


def reduce(call: str, parts: Sequence[Part]) -> Nothing:
    """Give every rank that receives the sum of those whom it hears."""
    for total, takers in _totals(call, parts):
        for part in takers:
            check_arrived(call, parts[part.hears[0]], total, part)
            part.recv.unpack(total)
    return [None] * len(parts)


def reduce_scatter(call: str, parts: Sequence[Part]) -> Nothing:
    """Give every rank its stretch of the sum of those whom it hears: as much as it takes."""
    for total, takers in _totals(call, parts):
        ends = np.cumsum([part.takes for part in takers])
        if ends[-1] != total.size:
            raise CollectiveMismatchError(
                f"{call}: {total.size} elements are reduced, and the ranks take {ends[-1]} of them; let the "
                "receive counts add up to what each rank sends"
            )
        for part, stretch in zip(takers, np.split(total, ends[:-1]), strict=True):
            part.recv.unpack(stretch)
    return [None] * len(parts)


def scan(call: str, parts: Sequence[Part]) -> Nothing:
    """Give rank i the sum x0 + … + xi."""
    for part, total in zip(parts, _partial_sums(call, parts), strict=True):
        part.recv.unpack(total)
    return [None] * len(parts)


def exscan(call: str, parts: Sequence[Part]) -> Nothing:
    """Give rank i the sum x0 + … + x(i-1); rank 0 keeps what it has."""
    before: Array | None = None
    for part, total in zip(parts, _partial_sums(call, parts), strict=True):
        if before is not None:
            part.recv.unpack(before)
        before = total.copy()
    return [None] * len(parts)


def _partial_sums(call: str, parts: Sequence[Part]) -> Iterator[Array]:
    """Yield x0, then x0 + x1, then (x0 + x1) + x2, …, in one array that each step overwrites.

    A rank's part is read before its sum is yielded, so that the sum may overwrite it (IN_PLACE).
    """
    total, add = np.array(parts[0].send.pack()), parts[0].op
    yield total
    for part in parts[1:]:
        value = part.send.pack()
        if value.size != total.size or value.dtype != total.dtype:
            raise CollectiveMismatchError(
                f"{call}: rank {parts[0].name} reduces {total.size} × {total.dtype}, and rank {part.name} "
                f"{value.size} × {value.dtype}; make counts and types equal on all ranks"
            )
        add(total, value, out=total)
        yield total


def _totals(call: str, parts: Sequence[Part]) -> Iterator[tuple[Array, list[Part]]]:
    """Yield each group's sum, and who takes of it."""
    takers: dict[range, list[Part]] = {}
    for part in parts:
        if part.recv is not None:
            takers.setdefault(part.hears, []).append(part)
    for hears, those in takers.items():
        *_, total = _partial_sums(call, [parts[seat] for seat in hears])
        yield total, those
