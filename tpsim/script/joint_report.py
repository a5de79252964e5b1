"""The reports of all ranks, as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr

from tpsim.comm.signature import name_ranks
from tpsim.script.rank_session import RankSession
from tpsim.script.waiting_ranks import DONE, without_waiting

_RANK = re.compile(r"rank \d+ of \d+")  # in the repr of a communicator
_WHEN = ("setup", "call", "teardown")


class RankReprs(TerminalRepr):
    """What went wrong, rank by rank; ranks that tell the same come together.

    Attributes
    ----------
    reprcrash : ReprFileLocation or None
        The first, for pytest's summary.
    """

    def __init__(self, parts: Sequence[tuple[str, Any]]) -> None:
        self.parts = parts
        self.reprcrash = None
        title, first = parts[0]
        crash = getattr(first, "reprcrash", None)
        if crash is not None:
            self.reprcrash = ReprFileLocation(crash.path, crash.lineno, f"{title}: {crash.message}")

    def toterminal(self, tw: Any) -> None:
        """Write it."""
        for title, text in self.parts:
            tw.sep("-", title)
            if hasattr(text, "toterminal"):
                text.toterminal(tw)
            else:
                tw.line(str(text))


def joint_reports(
    item: pytest.Item, sessions: Sequence[RankSession], left: str | None
) -> Iterator[pytest.TestReport]:
    """Yield the reports of a test that ran on several ranks: of its setup, call and teardown.

    It fails once, in the first of these in which it fails on any rank.
    """
    told = False
    for when in _WHEN:
        reports = {s.rank: r for s in sessions for r in s.reports if r.when == when}
        missing = {s.rank: s.trouble for s in sessions if not s.reports} if when == "setup" else {}
        if (not reports and not missing) or (
            told and when == "call"
        ):  # where it was not set up on every rank
            continue
        parts = (
            [] if told else list(_parts(reports, missing, left if when == "call" else None, len(sessions)))
        )
        told = told or bool(parts)
        yield _joint(item, when, reports, parts)


def _joint(
    item: pytest.Item,
    when: Any,
    reports: dict[int, pytest.TestReport],
    parts: list[tuple[str, Any]],
) -> pytest.TestReport:
    outcome: Any = "passed"
    text: Any = None
    expected = [report for report in reports.values() if hasattr(report, "wasxfail")]
    skipped = [report for report in reports.values() if report.skipped]
    if parts:
        outcome, text = "failed", RankReprs(parts)
    elif any(report.skipped for report in expected) or (skipped and len(skipped) == len(reports)):
        outcome, text = "skipped", skipped[0].longrepr
    joint: Any = pytest.TestReport(
        item.nodeid,
        item.location,
        dict.fromkeys(item.keywords, 1),
        outcome,
        text,
        when,
        sections=[
            (f"{title} [rank {rank}]", content)
            for rank, report in reports.items()
            for title, content in report.sections
        ],
        duration=max((report.duration for report in reports.values()), default=0.0),
        start=min((report.start for report in reports.values()), default=0.0),
        stop=max((report.stop for report in reports.values()), default=0.0),
    )
    if expected and outcome != "failed":
        joint.wasxfail = expected[0].wasxfail
    return joint  # type: ignore[no-any-return]


def _parts(
    reports: dict[int, pytest.TestReport], missing: dict[int, str], left: str | None, ranks: int
) -> Iterator[tuple[str, Any]]:
    """Yield what went wrong, with the ranks on which it did."""
    failed = {rank: report for rank, report in reports.items() if report.failed}
    own = {rank: report for rank, report in failed.items() if not getattr(report, "stopped", False)}
    verdict = next((r.longreprtext for r in failed.values() if "DeadlockError" in r.longreprtext), "")
    if verdict and not own and not missing:  # all that wait tell the same
        yield _who(list(failed), ranks), without_waiting(verdict)
        return
    texts: dict[str, tuple[Any, list[int]]] = {}
    for rank, report in (own or failed).items():
        same = _RANK.sub("rank", report.longreprtext)
        texts.setdefault(same, (report.longrepr, []))[1].append(rank)
    for rank, trouble in missing.items():
        why = trouble or "the test was not collected on this rank"
        texts.setdefault(why, (why, []))[1].append(rank)
    for text, on in texts.values():
        yield _who(on, ranks), text
    if own and len(failed) > len(own):
        lines = [line for line in verdict.splitlines() if line.startswith("  rank") and DONE not in line]
        yield "the other ranks were stopped", "\n".join(lines) or "they waited for the ranks that failed"
    if left is not None and not failed:
        yield f"all {ranks} ranks passed", left


def _who(ranks: list[int], size: int) -> str:
    return f"all {size} ranks" if len(ranks) == size > 1 else f"{name_ranks(ranks)} of {size}"
