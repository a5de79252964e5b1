"""pytest's plugin: `pytest --ranks 4` runs tests that are marked `mpi` on virtual ranks.

The marks are pytest-mpi's (`mpi`, `mpi(min_size=2)`, `mpi_skip`, `mpi_xfail`, `mpi_break`), so that tests
written for `mpirun -n 4 pytest --with-mpi` run as they are, with no MPI and no mpi4py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tpsim.script.rank_tests import RankTests

_MARKS = (
    "mpi(min_size=None): a test of a program of several ranks; skipped where there are fewer than min_size",
    "mpi_skip: a test that is skipped on ranks",
    "mpi_xfail: a test that is expected to fail on ranks",
    "mpi_break: an old name of mpi_skip",
)
_HAS_PYTEST_MPI = find_spec("pytest_mpi") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("tpsim", "tests of MPI programs")
    group.addoption("--ranks", type=int, metavar="N", help="run tests marked mpi on N virtual ranks of tpsim")
    if not _HAS_PYTEST_MPI:
        group.addoption("--with-mpi", action="store_true", help="under mpiexec: run tests marked mpi")
        group.addoption("--only-mpi", action="store_true", help="under mpiexec: run only tests marked mpi")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marks."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    ranks = config.getoption("ranks")
    if ranks is None:
        return
    from tpsim.script.session import check_number

    try:
        check_number(ranks, f"--ranks {ranks}")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.option.with_mpi = True  # to pytest-mpi, this is MPI
    if not config.pluginmanager.hasplugin("tpsim_rank"):
        config.pluginmanager.register(_Ranks(config, ranks), "tpsim_ranks")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Let conftests and test modules find tpsim's mpi4py."""
    ranks = early_config.known_args_namespace.ranks
    if ranks is None or early_config.pluginmanager.hasplugin("tpsim_rank"):
        return
    from tpsim.script.session import check_number

    with suppress(ValueError):  # which is told when pytest is configured
        check_number(ranks, "--ranks")
        early_config.add_cleanup(_lay_out_mpi4py(ranks))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Do to marked tests what their marks ask for."""
    ranks, with_mpi = config.getoption("ranks"), config.getoption("with_mpi")
    only_mpi = config.getoption("only_mpi")
    for item in items:
        mark = item.get_closest_marker("mpi")
        if mark is None:
            if only_mpi:
                item.add_marker(pytest.mark.skip(reason="--only-mpi runs tests that are marked mpi"))
            continue
        if ranks is None and not (with_mpi or only_mpi):
            item.add_marker(
                pytest.mark.skip(reason="needs several ranks: pass --ranks 4, or --with-mpi under mpiexec")
            )
            continue
        if item.get_closest_marker("mpi_skip") or item.get_closest_marker("mpi_break"):
            item.add_marker(pytest.mark.skip(reason="marked as not working under MPI"))
        if item.get_closest_marker("mpi_xfail"):
            item.add_marker(pytest.mark.xfail(reason="marked as failing under MPI"))
        least = mark.kwargs.get("min_size")
        if least is not None and (ranks or _size()) < least:
            item.add_marker(pytest.mark.skip(reason=f"needs {least} ranks; there are {ranks or _size()}"))


if not _HAS_PYTEST_MPI:

    @pytest.fixture
    def mpi_tmp_path(tmp_path: Path) -> Path:
        """Return a folder that all ranks share: the first one's."""
        return Path(_of_first(str(tmp_path)))

    @pytest.fixture
    def mpi_tmpdir(tmpdir: Any) -> Any:
        """Return the same as `py.path.local`."""
        return type(tmpdir)(_of_first(str(tmpdir)))

    @pytest.fixture
    def mpi_file_name(tmp_path: Path) -> str:
        """Return the name of a file that all ranks share, and that is not there yet."""
        return str(Path(_of_first(str(tmp_path))) / "file")


def _of_first(name: str) -> str:
    from mpi4py import MPI

    return str(MPI.COMM_WORLD.bcast(name, root=0))


class _Ranks:
    """Hands marked tests over to ranks."""

    def __init__(self, config: pytest.Config, ranks: int) -> None:
        self._config = config
        self._count = ranks
        self._following: dict[str, str] = {}
        self._files: set[Path] = set()
        self._tests: RankTests | None = None

    def pytest_report_header(self) -> str:
        """Say it."""
        return f"tpsim: tests marked mpi run on {self._count} virtual ranks"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which tests are to run on ranks, and in which order."""
        found = [item for item in session.items if item.get_closest_marker("mpi") is not None]
        self._files = {item.path for item in found}
        self._following = {a.nodeid: b.nodeid for a, b in pairwise(found)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a marked test on every rank."""
        if item.get_closest_marker("mpi") is None:
            return None
        from tpsim.script.joint_report import joint_reports

        hook = item.config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        tests = self._on_ranks()
        sessions = tests.run(item.nodeid, self._following.get(item.nodeid))
        if any(session.interrupted for session in sessions):
            raise KeyboardInterrupt
        warned = set()
        for warning in (warning for session in sessions for warning in session.warnings):
            text = str(warning["warning_message"])
            if text not in warned:
                hook.pytest_warning_recorded.call_historic(kwargs=warning)
            warned.add(text)
        for report in joint_reports(item, sessions, tests.left):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End the ranks."""
        if self._tests is not None:
            self._tests.close()

    def _on_ranks(self) -> RankTests:
        if self._tests is None:
            from tpsim.script.rank_tests import RankTests, arguments

            factory: Any = self._config._tmp_path_factory  # type: ignore[attr-defined]
            folder = factory.getbasetemp()
            self._tests = RankTests(self._count, arguments(self._config), self._files, folder)
        return self._tests


def _lay_out_mpi4py(ranks: int) -> Callable[[], None]:
    """Put tpsim's mpi4py where tests are collected, as rank 0 finds it; return how to take it away."""
    from tpsim.comm.virtual.comm import world_comm
    from tpsim.comm.virtual.lockstep import LockstepWorld
    from tpsim.script import package

    def ours(name: str) -> bool:
        return name.partition(".")[0] == package.NAME

    before = {name: module for name, module in sys.modules.items() if ours(name)}
    for name in before:
        del sys.modules[name]
    finder = package.Finder()
    sys.meta_path.insert(0, finder)
    sys.modules.update(package.package(world_comm(LockstepWorld(ranks, 0), 0)))

    def take_away() -> None:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)

    return take_away


def _size() -> int:
    """Return the number of ranks under mpiexec."""
    from tpsim.comm.mpi import world

    return int(world().size)
