"""Figures in words, for terminals, pictures and README alike."""

from __future__ import annotations

from tpsim.studies.bench.result import Row
from tpsim.studies.bench.study import MUCH, Bench
from tpsim.studies.bench.targets import Finding, Target


def milliseconds(seconds: float) -> str:
    """Return "0.0123", "1.23", "12.3" or "1,230": three digits."""
    return three(1e3 * seconds)


def three(number: float) -> str:
    """Return a number with three digits or more, and no more after the point than that takes."""
    if number >= 99.95:
        return f"{number:,.0f}"
    digits = 1
    while number < 0.9995 * 10 ** (2 - digits) and digits < 4:
        digits += 1
    return f"{number:.{digits}f}"


def rate(row: Row) -> str:
    """Return a row's work a second."""
    return f"{three(row.rate / 1e9)} {'GFLOP' if row.work_unit == 'FLOP' else 'GB'}/s"


def percent(share: float | None) -> str:
    """Return a share in %; "" for one that is not known."""
    return "" if share is None else f"{100 * share:.0f} %"


def sign(finding: Finding) -> str:
    """Return ✓, ✗, or "not measured"."""
    if finding.holds is None:
        return "not measured"
    return "✓" if finding.holds else "✗"


def limit(target: Target) -> str:
    """Return "at most 0.6"."""
    return f"{'at least' if target.at_least else 'at most'} {target.limit:g}"


def machine(found: Bench) -> str:
    """Return the machine, the date and the versions in a sentence."""
    of = found.machine
    versions = ", ".join(f"{name} {version}" for name, version in of.versions.items())
    briefly = ", briefly" * found.quick
    return f"{of.processor}, {of.cores} cores, {of.system}; {of.date}{briefly}; {versions}."


def quiet(found: Bench) -> str:
    """Return how much of the cores others used, with a warning where it was much; "" where it isn't known."""
    shares = {"before": found.machine.others_before, "while it measured": found.others}
    known = {when: share for when, share in shares.items() if share is not None}
    if not known:
        return ""
    said = "Of the cores, others used " + " and ".join(
        f"{percent(share)} {when}" for when, share in known.items()
    )
    if max(known.values()) <= MUCH:
        return f"{said}."
    return f"{said}: more than {percent(MUCH)}, so figures are doubtful; run it on a quiet machine."
