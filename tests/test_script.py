"""`tpsim run`: an mpi4py program as it is, on virtual ranks."""

import _thread
import io
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tpsim.cli import main
from tpsim.comm.virtual.data.absent import LEFT_OUT
from tpsim.script.job import Options, run_job
from tpsim.script.program import Module, Script

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program's text on ranks; return the exit code."""

    def run(source: str, ranks: int = 3, args: tuple[str, ...] = (), **options: object) -> int:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return run_job(Script(str(path), args), Options(ranks, **options))  # type: ignore[arg-type]

    return run


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


HELLO = """
from mpi4py import MPI
comm = MPI.COMM_WORLD
"""


def test_each_rank_finds_its_own_world(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(HELLO + "print(comm.Get_rank(), comm.size, comm.allreduce(comm.rank))", 4) == 0
    assert sorted(lines(capsys)) == [f"{rank} 4 6" for rank in range(4)]


def test_a_program_sees_what_python_would_show_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = HELLO + (
        "import sys\n"
        "if __name__ == '__main__' and sys.modules['__main__'].__dict__ is globals():\n"
        "    print(sys.argv[1:], __file__, sys.path[0])\n"
        "    assert sys.argv[0] == __file__\n"
    )
    assert run(code, 2, ("-n", "x")) == 0
    assert set(lines(capsys)) == {f"['-n', 'x'] {tmp_path / 'program.py'} {tmp_path}"}


def test_a_module_that_keeps_the_rank_at_import_keeps_each_ranks_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keeps.py").write_text("from mpi4py import MPI\nrank = MPI.COMM_WORLD.rank\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("from . import inner\n")
    (tmp_path / "package/inner.py").write_text("import keeps\nrank = keeps.rank\n")
    code = """
    comm.Barrier()
    import keeps
    comm.Barrier()
    import package.inner
    comm.Barrier()
    assert keeps.rank == package.inner.rank == comm.rank
    """
    assert run(HELLO + textwrap.dedent(code), 4) == 0


def test_objects_of_the_programs_classes_travel(run: Run, tmp_path: Path) -> None:
    (tmp_path / "things.py").write_text("class Thing:\n    pass\n")
    code = """
    import things
    class Mine:
        def __init__(self, rank): self.rank = rank
    left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
    got = comm.sendrecv(Mine(comm.rank), right, source=left)
    assert type(got) is Mine and got.rank == left
    assert all(type(thing) is things.Thing for thing in comm.allgather(things.Thing()))
    """
    assert run(HELLO + textwrap.dedent(code)) == 0


def test_random_numbers_are_those_of_a_process_of_its_own(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
    import random
    import numpy as np
    from numpy.random import rand
    random.seed(comm.rank)
    np.random.seed(comm.rank)
    drawn = []
    for _ in range(3):
        comm.Barrier()
        drawn += [random.random(), random.gauss(0, 1), rand(), np.random.randn()]
    comm.Barrier()
    ours, theirs = random.Random(comm.rank), np.random.RandomState(comm.rank)
    for _ in range(3):
        assert drawn[:4] == [ours.random(), ours.gauss(0, 1), theirs.rand(), theirs.randn()]
        del drawn[:4]
    """
    assert run(HELLO + textwrap.dedent(code)) == 0


def test_what_a_process_has_once_each_rank_has(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
    import logging, os, sys, warnings
    me = str(comm.rank)
    logging.basicConfig(format=f"{me}: %(message)s", stream=sys.stdout)
    os.environ["MINE"] = sys.argv[0] = me
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        comm.Barrier()
        warnings.warn(me)
        comm.Barrier()
    assert [str(w.message) for w in caught] == [me]
    assert os.getenv("MINE") == os.environ["MINE"] == sys.argv[0] == me
    logging.warning("log")
    """
    assert run(HELLO + textwrap.dedent(code)) == 0
    assert sorted(lines(capsys)) == ["0: log", "1: log", "2: log"]


def test_each_rank_has_its_own_working_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = """
    import os
    from pathlib import Path
    for _ in range(2):
        os.mkdir(str(comm.rank))
        os.chdir(str(comm.rank))
        comm.Barrier()
        Path("mine").write_text(str(comm.rank))
        comm.Barrier()
        assert Path("mine").read_text() == str(comm.rank)
    """
    assert run(HELLO + textwrap.dedent(code)) == 0
    assert (tmp_path / "2/2/mine").read_text() == "2"


def test_ranks_never_share_a_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
    import sys
    print("one", end=" ")
    comm.Barrier()
    print("line", end="", flush=True)
    comm.Barrier()
    sys.stdout.buffer.write(b", and bytes\\n")
    comm.Barrier()
    print("no end", end="")
    """
    assert run(HELLO + textwrap.dedent(code), 2, prefix=True) == 0
    assert sorted(lines(capsys)) == [
        f"[{r}] {text}" for r in (0, 1) for text in ("no end", "one line, and bytes")
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("pass", 0),
        ("sys.exit()", 0),
        ("sys.exit(5)", 5),
        ("sys.exit(5 if comm.rank == 2 else 0)", 5),
        ("sys.exit('why')", 1),
        ("comm.Abort(7)", 7),
        ("1 / 0", 1),
        ("comm.recv(source=comm.rank)", 1),
        ("comm.rank or comm.Barrier()", 1),
        ("comm.rank or comm.send(1, dest=1)", 1),
    ],
)
def test_the_exit_code_is_that_of_mpiexec(run: Run, line: str, code: int) -> None:
    assert run(f"{HELLO}\nimport sys\n{line}") == code


def test_a_rank_that_exits_leaves_the_others_running(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nif comm.rank == 0: sys.exit(3)\nfor _ in range(3): comm.Iprobe()\nprint(comm.rank)"
    assert run(HELLO + code) == 3
    assert sorted(lines(capsys)) == ["1", "2"]


def test_an_error_shows_the_programs_lines_and_the_rank(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = HELLO + "def f():\n    if comm.rank == 1:\n        raise KeyError('k')\n    comm.Barrier()\nf()"
    assert run(code) == 1
    text = capsys.readouterr().err
    assert "raise KeyError('k')" in text
    assert "rank 1 of 3" in text
    assert text.count('File "') == 2
    assert "tpsim" not in text


def test_a_wrong_argument_shows_the_line_that_has_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(HELLO + "comm.send(1, dest=99)") == 1
    text = capsys.readouterr().err
    assert "comm.send(1, dest=99)" in text
    assert text.count('File "') == 1


def test_a_programs_own_hook_for_errors_may_abort(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
    import sys
    def hook(kind, error, trace):
        print("hook", error)
        comm.Abort(9)
    sys.excepthook = hook
    if comm.rank == 1: raise ValueError("caught")
    comm.Barrier()
    """
    assert run(HELLO + textwrap.dedent(code)) == 9
    assert lines(capsys) == ["hook caught"]


def test_what_a_rank_registers_for_its_exit_is_called_at_its_exit(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code = HELLO + "import atexit\natexit.register(lambda: print('bye', comm.allreduce(1)))\nprint('hello')"
    assert run(code, 2) == 0
    assert lines(capsys) == ["hello", "hello", "bye 2", "bye 2"]


@pytest.mark.parametrize("ending", ["", "raise ValueError", "import sys; sys.exit(1)"])
def test_nothing_leaks_out(run: Run, tmp_path: Path, ending: str) -> None:
    import os
    import random

    import numpy as np

    (tmp_path / "leaky.py").write_text("")
    code = """
    import os, random, sys
    import numpy as np
    import leaky, colorsys
    random.seed(1); np.random.seed(1)
    sys.argv.append("x"); sys.path.append("y"); sys.meta_path.append(None); os.environ["LEAK"] = "1"
    sys.stdout = None; os.chdir("/")
    """

    def state() -> list[object]:
        return [
            sys.modules["__main__"],
            sys.modules.get("mpi4py"),
            sys.modules.get("mpi4py.MPI"),
            "leaky" in sys.modules,
            list(sys.argv),
            list(sys.path),
            list(sys.meta_path),
            sys.stdout,
            dict(os.environ),
            os.getcwd(),
            subprocess.run(
                [sys.executable, "-c", "import os; print('LEAK' in os.environ)"], capture_output=True
            ).stdout,
            random.getstate(),
            str(np.random.get_state()),  # noqa: NPY002
            np.random.rand.__self__,  # type: ignore[attr-defined]
        ]

    random.seed(5)
    before = state()
    run(HELLO + textwrap.dedent(code) + ending)
    assert state() == before


def test_a_thread_is_the_rank_that_starts_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keeps.py").write_text("from mpi4py import MPI\nrank = MPI.COMM_WORLD.rank\n")
    code = """
    import threading
    class Mine: pass
    def work():
        from mpi4py import MPI as again
        import keeps
        assert again is MPI and keeps.rank == comm.rank
        right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        for _ in range(3):
            assert comm.sendrecv(comm.rank, right, source=left) == left
        for _ in range(30):
            assert type(comm.sendrecv(Mine(), right, source=left)) is Mine
        print(comm.rank)
    thread = threading.Thread(target=work)
    thread.start()
    comm.Barrier()
    thread.join()
    """
    assert run(HELLO + textwrap.dedent(code), prefix=True) == 0
    assert sorted(lines(capsys)) == ["[0] 0", "[1] 1", "[2] 2"]


@pytest.mark.parametrize(
    "line", ["while True: pass", "import time; time.sleep(60)", "while True: comm.Iprobe()"]
)
def test_the_timeout_ends_a_run_and_says_where_each_rank_stands(
    run: Run, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    code = f"{HELLO}\nif comm.rank == 1:\n    {line}\ncomm.Barrier()\n"
    assert run(code, timeout=0.4) == 1
    text = capsys.readouterr().err
    assert "0.4 s" in text
    assert "program.py:7" in text  # where ranks 0 and 2 wait
    assert "program.py:6" in text
    assert "job.py" not in text  # lines on the way to the program


def test_ranks_that_had_no_turn_yet_are_not_said_to_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("while True: pass", timeout=0.4) == 1
    first, _, stacks = capsys.readouterr().err.partition("where each is")
    assert "  rank 0: running  at program.py:1\n  ranks 1, 2: not begun yet" in first
    assert "1, 2" not in stacks
    assert run(f"{HELLO}\ncomm.Barrier()\nwhile True: pass", timeout=0.4) == 1
    assert "Barrier(), complete: waits for its turn  at program.py:5" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["while True: pass", "while True: comm.Iprobe()"])
def test_ctrl_c_ends_a_run_and_says_where_each_rank_stands(
    run: Run, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    before = signal.getsignal(signal.SIGINT)
    code = f"{HELLO}\nif comm.rank == 1:\n    {line}\ncomm.Barrier()\n"
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    assert run(code, 2) == 130
    text = capsys.readouterr().err
    assert text.startswith("interrupted\n  rank 0: Barrier()  at program.py:7\n  rank 1: ")
    assert "program.py:6: " in text
    assert "job.py" not in text
    assert signal.getsignal(signal.SIGINT) is before


def test_a_program_may_catch_ctrl_c(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
    import signal
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("caught", comm.allreduce(1))
    """
    assert run(HELLO + textwrap.dedent(code), 2) == 0
    assert lines(capsys) == ["caught 2"] * 2


def test_a_trace_has_every_call_of_every_rank(run: Run, tmp_path: Path) -> None:
    code = HELLO + "import numpy as np\nx = np.ones(4)\ncomm.Bcast(x, root=1)\ncomm.barrier()\n"
    assert run(code, 2, trace=tmp_path / "trace.json") == 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    calls = [(e["pid"], e["name"]) for e in events if e["ph"] == "X"]
    assert sorted(calls) == [(rank, name) for rank in (0, 1) for name in ("Bcast", "barrier")]
    bcast = next(e for e in events if e["name"] == "Bcast")
    assert bcast["args"]["bytes"] == 32
    assert bcast["args"]["root"] == 1


def test_a_program_that_only_works_by_buffering_is_found(run: Run) -> None:
    code = HELLO + "comm.send(1, dest=1 - comm.rank)\ncomm.recv()\n"
    assert run(code, 2) == 0
    assert run(code, 2, eager_bytes=0) == 1


def test_launch_runs_on_the_ranks_that_the_program_has(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import tpsim\nprint(tpsim.launch(lambda comm: comm.rank))", 2) == 0
    assert lines(capsys) == ["[0, 1]", "[0, 1]"]


def test_only_the_first_rank_has_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("4\n"))
    assert (
        run(HELLO + "import sys\nn = comm.bcast(int(input()) if comm.rank == 0 else None)\nprint(n)", 2) == 0
    )
    assert lines(capsys) == ["4", "4"]


def test_a_rank_that_has_no_input_says_who_has(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(HELLO + "if comm.rank == 1: input()", 2) == 1
    assert "only rank 0 has the standard input" in capsys.readouterr().err


def test_a_wait_for_a_thread_that_never_comes_is_a_deadlock(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(HELLO + "import threading\nthreading.Event().wait()") == 1
    text = capsys.readouterr().err
    assert "asks again and again for what another thread does" in text
    assert text.endswith("an event that nobody sets\n")


def test_an_installed_package_that_takes_mpi_at_import_takes_each_ranks_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    (folder / "installed").mkdir(parents=True)
    (folder / "installed/__init__.py").write_text("from .inner import rank")
    (folder / "installed/inner.py").write_text("from mpi4py import MPI\nrank = MPI.COMM_WORLD.rank")
    monkeypatch.setattr("tpsim.script.libraries._roots", lambda: (folder,))
    code = (
        f"import sys\nsys.path.append({str(folder)!r})\nimport installed\nassert installed.rank == comm.rank"
    )
    assert run(HELLO + code) == 0
    assert "installed" not in sys.modules


def test_what_the_readme_shows_is_what_is_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    source, shown = re.search(r"```py\n(# ring.py\n.*?)```.*?ring.py\n(.*?)```", readme, re.S).groups()  # type: ignore[union-attr]
    assert run(source) == 1
    assert capsys.readouterr().err.replace("program.py", "ring.py") == shown


def test_the_readme_lists_what_is_left_out() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    table = readme.split("| left out | calls |\n|---|---|\n")[1].split("\n\n")[0]
    rows = dict(row.strip("| ").split(" | ") for row in table.splitlines())
    listed = {what: set(re.findall(r"`(.*?)`", calls)) for what, calls in rows.items()}
    expected: dict[str, set[str]] = {}
    for absence in LEFT_OUT:
        owner = absence.owner or "MPI"
        whole = {"MPI." + owner} if owner in ("Win", "File", "Session") else set()
        expected.setdefault(absence.what, set()).update(
            whole or (f"{owner}.{call}" for call in absence.calls)
        )
    assert listed == expected


def test_a_module_runs_as_python_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "pack/__main__.py").write_text(
        HELLO + "import sys\nfrom . import part\nprint(__name__, sys.argv[1:], part.rank == comm.rank)"
    )
    (tmp_path / "pack/part.py").write_text(HELLO + "rank = comm.rank")
    monkeypatch.chdir(tmp_path)
    assert run_job(Module("pack", ["-x"]), Options(2)) == 0
    assert lines(capsys) == ["__main__ ['-x'] True"] * 2


def test_submodules_of_mpi4py_are_the_installed_ones_on_our_mpi(run: Run) -> None:
    pytest.importorskip("mpi4py")
    code = (
        "import mpi4py.util.dtlib as dtlib\nassert dtlib.MPI is MPI\nimport mpi4py\nmpi4py.rc(finalize=False)"
    )
    assert run(HELLO + code) == 0


def test_the_command_needs_no_mpi4py_and_leaves_the_programs_arguments_alone(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(HELLO + "import sys\nprint(comm.rank, comm.size, sys.argv[1:])")
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'mpi4py': raise ImportError('blocked')\n"
        "sys.meta_path.insert(0, Block)\n"
        "import tpsim.cli\n"
        "sys.argv = ['tpsim', 'run', '-n', '2', '-l', 'p.py', '-n', '7', '--prefix']\n"
        "tpsim.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=tmp_path)
    assert sorted(done.stdout.splitlines()) == [f"[{r}] {r} 2 ['-n', '7', '--prefix']" for r in (0, 1)]
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", [None, "def f(:\n"])
def test_a_program_that_can_not_be_run_is_told_once(tmp_path: Path, source: str | None) -> None:
    if source is not None:
        (tmp_path / "p.py").write_text(source)
    command = [sys.executable, "-m", "tpsim", "run", "-n", "2", "p.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == (2 if source is None else 1)
    assert done.stderr.count("p.py") == 1
    assert "Traceback" not in done.stderr


Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `tpsim run` where there are a script and a package; return the exit code."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "p.py").write_text("print('ran')")
    monkeypatch.chdir(tmp_path)

    def command(words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tpsim", "run", *words.split()])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return command


@pytest.mark.parametrize(
    ("words", "why", "remedy"),
    [
        ("p.py", "it is not said how many ranks", "as in tpsim run -n 4 p.py"),
        ("p.py -n 2", "it is not said how many ranks", "before the program, as in tpsim run -n 4 p.py"),
        ("-m pack", "it is not said how many ranks", "as in tpsim run -n 4 -m pack"),
        ("-n 0 p.py", "-n 0 is not a number of ranks", "pass 1 or more"),
        ("-n 1000000 p.py", "so many ranks do not fit into one process", "pass 10000 or fewer"),
        ("-n 2 p", "there is no file 'p'", "pass p.py"),
        ("-n 2 q.py", "there is no file 'q.py'", "pass a script's path"),
        ("-n 2 python p.py", "there is no file 'python'", "leave python out"),
        ("-n 2 pack", "folder 'pack' has no __main__.py", "pass a script that is in it"),
        ("-n 2 -m pack", "package 'pack' has no __main__.py", "pass -m pack. and one of its modules"),
        ("-n 2 -m pack/p.py", "is a file and not a module's name", "write -m pack.p"),
        ("-n 2 -m nowhere.p", "there is no module 'nowhere.p'", "pass a script's path without -m"),
        ("-n 2 --timeout 0 p.py", "--timeout 0 is no time", "pass seconds, such as 10"),
        ("-n 2 --eager -1 p.py", "--eager -1 is not a number of bytes", "pass 0 or more"),
    ],
)
def test_what_can_not_be_run_is_one_line_and_exit_code_2(
    command: Command, capsys: pytest.CaptureFixture[str], words: str, why: str, remedy: str
) -> None:
    assert command(words) == 2
    said = capsys.readouterr()
    assert why in said.err
    assert remedy in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    "words", ["-n 2 p.py", "-n2 p.py", "-np 2 p.py", "--ranks=2 p.py", "-n 2 -m p", "-n 2 -m mpi4py p.py"]
)
def test_a_program_is_started_as_under_mpiexec_and_mpirun(
    command: Command, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert command(words) == 0
    assert lines(capsys) == ["ran", "ran"]
