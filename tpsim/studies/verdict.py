"""Which row of an estimate to choose, and what keeps the others from it, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

from tpsim.cost.hardware import Hardware
from tpsim.studies.costs import Costs

Name: TypeAlias = Callable[[Costs], str]

_MUCH = 0.1  # of a step: waiting that is worth a word


def best_of(rows: Iterable[Costs]) -> Costs:
    """Return the row that fits with the most tokens a second a device; if none fits, the smallest."""
    rows = list(rows)
    fitting = [row for row in rows if row.fits]
    if fitting:
        return max(fitting, key=lambda row: row.tokens_per_second_per_device)
    return min(rows, key=lambda row: row.memory.total)


def verdict(rows: Sequence[Costs], hardware: Hardware) -> str:
    """Say in a sentence or two which row to choose, and why not another number of ranks."""
    best = best_of(rows)
    options = len({(row.plan.sequence_parallel, row.plan.recompute) for row in rows}) > 1
    name = partial(called, options=options)
    if not best.fits:
        return _none_fits(best, name, hardware)
    rate = f"{best.tokens_per_second_per_device:,.0f} tokens/s"
    limit = f"{gigabytes(best.memory.total)} of {gigabytes(hardware.memory_bytes)} GB"
    said = [f"Choose {name(best)}: it fits ({limit}), and a device gets most done ({rate})."]
    if len(rows) == 1:
        said = [f"{name(best)} fits ({limit}); a device gets {rate} done."]
    waits = [
        f"{100 * seconds / best.step:.0f} % {why}"
        for seconds, why in ((best.exposed, "for messages"), (best.host_bound, "for its host"))
        if seconds > _MUCH * best.step
    ]
    if waits:
        said.append(f"Of its step it waits {' and '.join(waits)}.")
    by_ranks: dict[tuple[int, int], list[Costs]] = {}
    for row in rows:
        by_ranks.setdefault((row.plan.tp, row.plan.dp), []).append(row)
    own = (best.plan.tp, best.plan.dp)
    others = [best_of(same) for ranks, same in by_ranks.items() if ranks != own]
    return " ".join([*said, *_too_large(others, name), *_slower(others, best, name)])


def called(row: Costs, *, options: bool = True) -> str:
    """Return what tells a row from others: "t = 8 × dp = 2 with SP, full recompute"; or without `options`."""
    plan = row.plan
    parts = [f"t = {plan.tp}"] if plan.tp > 1 or (plan.dp == 1 and not plan.fsdp) else []
    if plan.fsdp:
        parts.append(f"FSDP over {plan.dp}")
    elif plan.dp > 1:
        parts.append(f"dp = {plan.dp}")
    ways = ["SP"] if plan.sequence_parallel else []
    ways += [f"{plan.recompute} recompute"] if plan.recompute != "none" else []
    return " × ".join(parts) + (f" with {', '.join(ways)}" if options and ways else "")


def gigabytes(nbytes: float) -> str:
    """Return a number of GB (10⁹ bytes, as devices and links are sold by) with three digits or more."""
    size = nbytes / 1e9
    digits = 0 if size >= 99.5 else 1 if size >= 9.95 else 2
    return f"{size:,.{digits}f}"


def _none_fits(least: Costs, name: Name, hardware: Hardware) -> str:
    kept, plan, limit = least.memory, least.plan, hardware.memory_bytes
    state = kept.weights + kept.gradients + kept.optimizer
    if state > limit:
        why = f"weights, gradients and optimizer alone are {gigabytes(state)} GB"
        remedies = ["more ranks", *["FSDP"] * (not plan.fsdp), "a mix of fewer bytes a parameter"]
    else:
        why = f"{gigabytes(kept.total - state)} GB of it go with the batch"
        remedies = ["sequence parallelism"] * (plan.tp > 1 and not plan.sequence_parallel)
        remedies += ["full recompute"] * (plan.recompute != "full")
        remedies += ["more ranks", "fewer or shorter sequences"]
    return (
        f"None fits {gigabytes(limit)} GB: the smallest, {name(least)}, needs {gigabytes(kept.total)} GB, "
        f"and {why}. Try {listed(remedies, 'or')}."
    )


def _too_large(others: Iterable[Costs], name: Name) -> list[str]:
    large = [row for row in others if not row.fits]
    if not large:
        return []
    needs = listed([gigabytes(row.memory.total) for row in large])
    return [f"{_together(map(name, large))} need{'s' * (len(large) == 1)} {needs} GB."]


def _slower(others: Iterable[Costs], best: Costs, name: Name) -> list[str]:
    slow = [row for row in others if row.fits]
    if not slow:
        return []
    rates = [row.tokens_per_second_per_device / best.tokens_per_second_per_device for row in slow]
    less = listed([f"{100 * (1 - rate):.0f}" for rate in rates])
    by_host = any(row.host_bound > _MUCH * row.step for row in slow)
    waits = listed([f"{100 * (row.exposed + by_host * row.host_bound) / row.step:.0f}" for row in slow])
    return [
        f"With {_together(map(name, slow))} a device gets {less} % less done, and {waits} % of "
        f"{'the step waits' if len(slow) == 1 else 'the steps wait'} for messages{' or the host' * by_host}."
    ]


def _together(names: Iterable[str]) -> str:
    """Return "t = 2, 4 and 8" for names that begin alike."""
    names = list(names)
    beginnings, _, ends = zip(*(name.rpartition(" ") for name in names), strict=True)
    if len(set(beginnings)) == 1 and all(end.isdigit() for end in ends):
        return f"{beginnings[0]} {listed(ends)}"
    return listed(names)


def listed(words: Iterable[str], joint: str = "and") -> str:
    """Return "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} {joint} {last}" if most else last
