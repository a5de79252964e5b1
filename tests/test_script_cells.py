"""Notebook cells on virtual ranks."""

import builtins
import sys
import threading
from collections.abc import Iterator

import pytest

from tpsim.script.cells import CellError, RankCells, RanksMagic, load_ipython_extension

Out = pytest.CaptureFixture[str]


@pytest.fixture
def cells() -> Iterator[RankCells]:
    ranks = RankCells(3)
    yield ranks
    ranks.close()


def printed(capsys: Out) -> list[str]:
    return sorted(capsys.readouterr().out.splitlines())


def test_a_ranks_variables_stay_on_it_from_cell_to_cell(cells: RankCells, capsys: Out) -> None:
    cells.run("x = 10 * rank")
    cells.run("comm.allgather(x)\nx + 1")
    assert printed(capsys) == ["[0] 1", "[1] 11", "[2] 21"]


def test_communicators_and_messages_on_their_way_outlive_a_cell(cells: RankCells, capsys: Out) -> None:
    cells.run("half = comm.Split(rank % 2)\nclass Mine: pass")
    cells.run("half.size, all(type(one) is Mine for one in comm.allgather(Mine()))")
    assert printed(capsys) == ["[0] (2, True)", "[1] (1, True)", "[2] (2, True)"]


def test_after_a_cell_that_fails_ranks_keep_their_variables(cells: RankCells, capsys: Out) -> None:
    cells.run("x = rank")
    with pytest.raises(CellError, match=r"1 / 0.*\n.*\n.*ZeroDivisionError.*\n.*rank 1 of 3"):
        cells.run("if rank == 1:\n    1 / 0\ncomm.Barrier()")
    cells.run("x, comm.allreduce(1)")
    assert printed(capsys) == ["[0] (0, 3)", "[1] (1, 3)", "[2] (2, 3)"]


def test_a_cell_that_hangs_says_why(cells: RankCells) -> None:
    with pytest.raises(CellError, match="rank 0: done\n  ranks 1, 2: Barrier"):
        cells.run("if rank: comm.Barrier()")
    with pytest.raises(CellError, match="never received"):
        cells.run("if rank: comm.send(1, dest=0)")
    cells.run("comm.Barrier()")


def test_the_notebook_is_as_it_was_between_cells(cells: RankCells) -> None:
    before = sys.modules["__main__"], sys.stdout, list(sys.argv), sys.modules.get("mpi4py")
    cells.run("import sys\nsys.argv = []")
    assert (sys.modules["__main__"], sys.stdout, list(sys.argv), sys.modules.get("mpi4py")) == before


def test_sets_of_ranks_may_come_and_go_in_any_order(capsys: Out) -> None:
    start, load = threading.Thread.start, builtins.__import__
    code = "import threading\nt = threading.Thread(target=print, args=(rank,))\nt.start()\nt.join()"
    two, three = RankCells(2), RankCells(3)
    two.run(code)
    three.run(code)
    two.close()
    three.run(code)
    three.close()
    assert len(printed(capsys)) == 8
    assert (threading.Thread.start, builtins.__import__) == (start, load)


def test_a_cell_that_is_not_python_runs_nowhere(cells: RankCells, capsys: Out) -> None:
    with pytest.raises(SyntaxError):
        cells.run("print(rank)\nx = = 1")
    assert printed(capsys) == []


def test_ipython_gets_the_magic(capsys: Out) -> None:
    known = {}

    class Shell:
        def register_magic_function(self, function: RanksMagic, kind: str, name: str) -> None:
            known[kind, name] = function

    load_ipython_extension(Shell())
    magic = known["cell", "ranks"]
    magic("2", "rank")
    assert printed(capsys) == ["[0] 0", "[1] 1"]
    for line, remedy in (("many", "write %%ranks 4"), ("", "write %%ranks 4"), ("0", "pass 1 or more")):
        with pytest.raises(CellError, match=f"^%%ranks: .*; {remedy}$"):
            magic(line, "rank")
    for ranks in magic.sets.values():
        ranks.close()


def test_a_cell_that_is_not_python_shows_its_line_alone_and_what_ipythons_own_lines_do_here() -> None:
    magic = RanksMagic()
    with pytest.raises(CellError, match=r"\A  File .*line 2\n    x = = 1\n.*\nSyntaxError: .*\Z"):
        magic("2", "y = 1\nx = = 1")
    with pytest.raises(CellError, match="in a cell without %%ranks"):
        magic("2", "!ls\n")


def test_a_cell_that_is_interrupted_says_where_each_rank_stands(cells: RankCells, capsys: Out) -> None:
    cells.run("x = rank")
    code = "import signal\nif rank == 0: comm.Barrier()\nif rank == 1: signal.raise_signal(signal.SIGINT)"
    with pytest.raises(CellError, match=r"^interrupted\n(.*\n)*  rank 1:\n.*ranks>:3: if rank == 1"):
        cells.run(code)
    cells.run("x")
    assert printed(capsys) == ["[0] 0", "[1] 1", "[2] 2"]


def test_the_extension_is_the_package_itself() -> None:
    import tpsim

    assert tpsim.load_ipython_extension is load_ipython_extension
