"""One rank's pytest session: it runs the tests that it is told to, and keeps the reports."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tpsim.comm.errors import CommError, RankStopped
from tpsim.script.report import without_plumbing

_ONE_IS_ENOUGH = {"LFPlugin", "NFPlugin", "StepwisePlugin", "LogXML", "ReportLogPlugin"}  # they write files

Asked = tuple[str, str | None]


class RankSession:
    """A plugin of one rank's pytest.

    Parameters
    ----------
    rank : int
    files : set of path
        The only ones to collect.
    stopping : callable
        Tells whether the ranks can't go on.

    Attributes
    ----------
    next_test : callable
        Returns the node ids of the next test and of that after it, or None at the end.
    reports : list of TestReport
        Of the test. Their `stopped` says that the rank was only stopped while it waited for others.
    warnings : list of dict
        What pytest recorded.
    interrupted : bool
        Whether it was left by Ctrl-C, or by `pytest.exit`.
    trouble : str
        Why tests could not be collected.
    """

    next_test: Callable[[], Asked | None]

    def __init__(self, rank: int, files: set[Path], stopping: Callable[[], bool]) -> None:
        self.__name__ = "tpsim_rank"  # by which tpsim's plugin knows that this is a rank's pytest
        self.rank = rank
        self.reports: list[pytest.TestReport] = []
        self.warnings: list[dict[str, Any]] = []
        self.interrupted = False
        self.trouble = ""
        self._files = files
        self._stopping = stopping
        self._test = ""

    @property
    def failed(self) -> bool:
        """Whether the test failed on this rank."""
        return any(report.failed for report in self.reports) or not self.reports

    def forget(self) -> None:
        """Make room for the next test."""
        self.reports, self.warnings = [], []

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Be silent: the caller's session tells."""
        config.get_terminal_writer()._file = open(os.devnull, "w")  # noqa: SIM115
        for plugin in config.pluginmanager.get_plugins():
            if type(plugin).__name__ in _ONE_IS_ENOUGH:
                config.pluginmanager.unregister(plugin)

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Close what was opened."""
        config.get_terminal_writer()._file.close()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave files alone in which there is nothing to run."""
        return True if collection_path.is_file() and collection_path not in self._files else None

    def pytest_keyboard_interrupt(self) -> None:
        """Note that somebody wants to stop."""
        self.interrupted = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note why a file can't be collected."""
        if report.failed:
            self.trouble += f"{report.longreprtext}\n"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run tests as they are asked for."""
        items = {item.nodeid: item for item in session.items}
        try:
            while (asked := self.next_test()) is not None:
                self._test, following = asked
                item = items.get(self._test)
                if item is not None:
                    after = None if following is None else items.get(following)
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if self._stopping():
                    break
        except (CommError, RankStopped):
            pass  # told by the ranks that were in the test
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Leave out frames that are tpsim's; where an error says all itself, all frames."""
        error = call.excinfo.value if call.excinfo is not None else None
        if error is not None:
            call.excinfo = pytest.ExceptionInfo.from_exception(without_plumbing(error))
        report: Any = yield
        report.stopped = self._stopping() and isinstance(error, CommError | RankStopped)
        if report.failed and isinstance(error, CommError):
            report.longrepr = f"{type(error).__name__}: {error}"
        return report  # type: ignore[no-any-return]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report."""
        self.reports.append(report)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        """Keep a warning."""
        self.warnings.append(
            {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        )
