"""Write one section of a profile, cross-validate a fit, and print how far rows are off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import tpsim.cost
from tpsim.cost.compare.case import Row, summarise

PROFILES = Path(tpsim.cost.__file__).parent / "profiles"

C = TypeVar("C")


def rounded(value: Any, digits: int = 4) -> Any:
    """Return nested lists and dictionaries with floats cut to so many significant digits."""
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry, digits) for entry in value]
    return float(f"{value:.{digits - 1}e}") if isinstance(value, float) else value


def write_section(name: str, section: dict[str, Any], source: str, *, profile: str = "h200") -> None:
    """Rewrite one section of a profile, and where it comes from; the rest of the file stays as it is."""
    path = PROFILES / f"{profile}.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    values[name] = rounded(section)
    values.setdefault("sources", {})[name] = source
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def halves(cases: Sequence[C], fit_and_price: Callable[[Sequence[C], Sequence[C]], list[Row]]) -> list[Row]:
    """Return the rows of each random half as priced by a fit to the other half."""
    order = np.random.default_rng(0).permutation(len(cases))
    one = [cases[i] for i in sorted(order[: len(order) // 2])]
    other = [cases[i] for i in sorted(order[len(order) // 2 :])]
    return fit_and_price(one, other) + fit_and_price(other, one)


def report(rows: Sequence[Row], unseen: Sequence[Row]) -> None:
    """Print mean, 90th percentile and worst error of each group, and of the same rows when not fitted to."""
    apart = {summary.group: summary for summary in summarise(unseen)}
    print(f"{'group':34s} rows  mean   p90    worst   when unseen: mean  p90")
    for s in summarise(rows):
        line = f"{s.group:34s} {s.rows:4d} {s.mean:6.1%} {s.p90:6.1%} {s.worst.error:+7.1%}"
        if s.group in apart:
            line += f"  {apart[s.group].mean:16.1%} {apart[s.group].p90:6.1%}"
        print(f"{line}   {s.worst.what}")
