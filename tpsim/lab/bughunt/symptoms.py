"""What is seen of a patient, in words: which numbers are off and by how much, never the mistake behind it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tpsim.lab.bughunt.examination import Examination, Seen, Value, is_array, same
from tpsim.lab.checking import Array
from tpsim.lab.checking.values import shown


def symptoms(seen: Seen) -> Iterator[str]:
    """Yield what is wrong on t ranks, in words: a line a value, and why a run stopped."""
    for value in seen.values:
        if value.wrong:
            yield _wrong(value)
    if seen.stop is not None:
        yield from (line.strip() for line in seen.stop.what.splitlines())
        if seen.stop.line:
            yield f"at {seen.stop.line}"


def healthy(seen: Seen) -> str:
    """Return which values are right on every rank, in words; "" if none is."""
    right = [value.name for value in seen.values if not value.wrong]
    if not right:
        return ""
    *most, last = right
    return f"{', '.join(most)} and {last} are right" if most else f"{last} is right"


def growth(examination: Examination) -> Iterator[str]:
    """Yield how what is off on 2 ranks compares with what is off on 1 and on 4."""
    by_t = {seen.t: seen for seen in examination.runs}
    if not {1, 2, 4} <= set(by_t):
        return
    for two in by_t[2].values:
        others = [by_t[t].value(two.name) for t in (1, 4)]
        if not (two.alike and two.fits and two.wrong) or _factor(two) is not None:
            continue
        one, four = (other if other and other.fits else None for other in others)
        if one and one.wrong and _times(one.off(0), two.off(0)) == 1:
            yield f"{two.name} is off by the same numbers on 1 rank as on 2: the ranks agree with each other"
        elif four and (times := _times(two.off(0), four.off(0))):
            yield f"what {two.name} is off by on 4 ranks is {_number(times)} times what it is off by on 2"


def _wrong(value: Value) -> str:
    name, where = value.name, _ranks(value.wrong, len(value.got))
    if not value.fits:
        got, must = value.got[value.wrong[0]], value.must[value.wrong[0]].shape
        if not is_array(got):
            kind = type(got).__name__
            return f"{name} is no array of numbers {where}: it is a {kind}, must have shape {must}"
        return f"{name} has another shape {where}: {got.shape}, must be {must}"
    if not all(np.all(np.isfinite(got)) for got in value.got):
        return f"{name} has entries that are not finite {where}"
    factor = _factor(value)
    if factor is not None:
        times = f"{_number(factor)} {'times' if abs(factor) >= 1 else 'of'}"
        return f"{name} is {times} what it must be, {where}, in every entry"
    text = f"{name} is off {where}, {_by(value)}"
    if value.alike and any(not same(got, value.got[0]) for got in value.got):
        text += "; and the ranks do not have the same, which they must"
    return text


def _by(value: Value) -> str:
    """Say by how much, and where."""
    off = [value.off(rank) for rank in value.wrong]
    if all(same(one, off[0]) for one in off):
        off = off[:1]
    every = np.concatenate([one.ravel() for one in off])
    if same(every, np.full_like(every, every[0])):
        return f"by {every[0]:+.4g} in every entry"
    first = off[0]
    if (
        len(off) == 1
        and first.ndim == 2
        and len(first) > 1
        and same(first, np.broadcast_to(first[0], first.shape))
    ):
        return f"by the same in every row: {shown(first[0])}"
    largest, wrong = f"by up to {np.max(np.abs(every)):.4g}", ~np.isclose(every, 0, atol=1e-9)
    if first.ndim == 2:
        right = np.flatnonzero(np.all(np.isclose(np.concatenate(off), 0, atol=1e-9), axis=0))
        if right.size:
            which = ", ".join(map(str, right))
            some = f"columns {which} are" if right.size > 1 else f"column {which} is"
            return f"{largest}; of its {first.shape[1]} columns, {some} right"
    return f"{largest}, in " + ("every entry" if wrong.all() else f"{wrong.sum()} of {every.size} entries")


def _factor(value: Value) -> float | None:
    """Return the one number by which all ranks' entries are multiplied, if there is one."""
    if not value.fits:
        return None
    return _times(
        np.concatenate([m.ravel() for m in value.must]), np.concatenate([np.ravel(g) for g in value.got])
    )


def _times(base: Array, other: Array) -> float | None:
    """Return k where other = k · base, k not 0."""
    base, other = np.asarray(base, np.float64), np.asarray(other, np.float64)
    if base.shape != other.shape or not base.size or not np.all(np.isfinite(other)):
        return None
    place = np.argmax(np.abs(base))
    if base.flat[place] == 0 or other.flat[place] == 0:
        return None
    times = float(other.flat[place] / base.flat[place])
    return round(times, 9) if same(other, times * base) else None


def _ranks(wrong: list[int], t: int) -> str:
    if len(wrong) == t:
        return "on every rank" if t > 1 else "on the only rank"
    return f"on rank{'s' * (len(wrong) > 1)} {', '.join(map(str, wrong))}"


def _number(value: float) -> str:
    """Return 2 or 1/2 rather than 2.0 or 0.5."""
    fraction = Fraction(value).limit_denominator(64)
    return str(fraction) if abs(float(fraction) - value) < 1e-9 else f"{value:.4g}"
