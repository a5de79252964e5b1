"""The lab: every exercise judges its right and wrong submissions rightly, and says why."""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tpsim.cli import app
from tpsim.comm import Group, run
from tpsim.lab.checking import (
    Call,
    Calls,
    Case,
    Collective,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Keeps,
    LocalRunner,
    Mistake,
    Result,
    Same,
    Sends,
    Sum,
    Takes,
    check,
    check_file,
    exercises,
    one_to,
    per_rank,
    split,
    submissions,
)
from tpsim.lab.checking.gates import ring_bytes
from tpsim.lab.watching import saved
from tpsim.lab.workbook import Workbook
from tpsim.trace import Trace

EXERCISES = list(exercises().values())
RIGHT = [(one, path) for one in EXERCISES for path in submissions(one, ["solution", "other"])]
WRONG = [(one, path) for one in EXERCISES for path in submissions(one, ["wrong_*"])]


def name(value: Any) -> str:
    return value.stem if isinstance(value, Path) else value.name


def constants(path: Path) -> dict[str, Any]:
    """Return the constants that a file sets, without running it."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {
        statement.targets[0].id: statement.value.value
        for statement in body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }


def first_failure(result: Result) -> tuple[str, str]:
    """Return the first property that fails, and as what."""
    for verdict in result.verdicts:
        if verdict.finding is not None:
            return verdict.name, verdict.finding.kind
    raise AssertionError("nothing fails")


# -- every exercise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "path"), RIGHT, ids=name)
def test_right_solutions_pass(exercise: Exercise, path: Path) -> None:
    result = check_file(exercise, path)
    assert result.findings == []
    assert result.points == exercise.points


@pytest.mark.parametrize(("exercise", "path"), WRONG, ids=name)
def test_wrong_solutions_fail_with_the_right_explanation(exercise: Exercise, path: Path) -> None:
    says = constants(path)
    result = check_file(exercise, path)
    assert first_failure(result) == (says["FAILS"], says["SAYS"])
    assert result.points < exercise.points
    smallest = says.get("SMALLEST", ("t = 1,", "t = 2,", "before"))
    assert result.findings[0].case.startswith(smallest)


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_an_untouched_task_is_not_implemented_and_earns_nothing(exercise: Exercise) -> None:
    result = check_file(exercise, exercise.folder / "task.py")
    assert {finding.kind for finding in result.findings} == {"not implemented"}
    assert result.points == 0


@pytest.mark.parametrize("exercise", EXERCISES, ids=name)
def test_an_exercise_is_complete(exercise: Exercise) -> None:
    assert len(submissions(exercise, ["solution", "other"])) == 2
    assert len(submissions(exercise, ["wrong_*"])) >= 3
    assert len(set(exercise.hints)) == 3
    names = [one.name for one in exercise.properties]
    assert len(set(names)) == len(names)
    assert f"tpsim lab check {exercise.number}\n" in (exercise.folder / "task.py").read_text(encoding="utf-8")


def test_exercises_are_numbered_without_gaps() -> None:
    assert [one.number for one in EXERCISES] == list(range(1, len(EXERCISES) + 1))


# -- what is said: submissions of one small exercise ---------------------------------------------------------


def deal(case: Case, draw: Draw) -> Deal:
    """Scatter a sum, and gather a product."""
    x, a = draw(case.rows, case.inner), draw(case.inner, case.out)
    terms = [xi @ ai for xi, ai in zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)]
    return Deal(
        given={"x": Cut(x, 1), "a": Cut(a, 0), "scale": Same(2)},
        wanted={"y": Sum(terms, axis=0), "mine": Each([xi * 2 for xi in split(x, case.t, 1)])},
        traffic={"scattered": [Collective("reduce_scatter", (case.rows, case.out))]},
    )


SMALL = Exercise(
    number=99,
    name="small",
    title="a sum, scattered",
    level=1,
    chapter=1,
    sizes={"rows": per_rank(2), "inner": per_rank(2), "out": one_to(2)},
    deal=deal,
    calls=[Call("scattered", "x a group", "y"), Call("scaled", "x scale", "mine kept")],
    properties=[
        Equals("y", 2),
        Equals("mine"),
        Calls("scattered"),
        Sends("scattered"),
        Keeps("kept", lambda case: case.rows * case.inner // case.t * case.itemsize),
    ],
    hints=("one", "two", "three"),
)


def scattered(x: Any, a: Any, group: Any) -> Any:
    return group.reduce_scatter(x @ a, axis=0)


def scaled(x: Any, scale: int) -> Any:
    return x * scale, x


def judged(**functions: Any) -> Result:
    """Check functions, in place of the right ones."""
    return check(SMALL, LocalRunner({"scattered": scattered, "scaled": scaled, **functions}, __file__))


def test_the_small_exercise_can_be_solved() -> None:
    assert judged().passed


def dtype_of_numpy(x: Any, scale: int) -> Any:
    return (x * scale).astype(np.float64), x


def only_rank_zero(x: Any, a: Any, group: Any) -> Any:
    if group.rank == 0:
        return group.reduce_scatter(x @ a, axis=0)
    return (x @ a)[: x.shape[0] // group.size]


def other_collective(x: Any, a: Any, group: Any) -> Any:
    if group.rank == 0:
        return group.all_reduce(x @ a)
    return group.reduce_scatter(x @ a, axis=0)


def never_waited_for(x: Any, a: Any, group: Any) -> Any:
    group.ireduce_scatter(x @ a, axis=0)
    return (x @ a)[: x.shape[0] // group.size]


def changed(x: Any, scale: int) -> Any:
    x *= scale
    return x, x


def made_writeable(x: Any, scale: int) -> Any:
    x.flags.writeable = True
    x *= scale
    return x, x


def leaves(x: Any, scale: int) -> Any:
    raise SystemExit


SAID: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "missing sum": (
        {"scattered": lambda x, a, group: np.split(x @ a, group.size)[group.rank]},
        "y",
        "missing sum",
    ),
    "averaged": ({"scattered": lambda x, a, group: scattered(x, a, group) / group.size}, "y", "averaged"),
    "another rank": (
        {"scattered": lambda x, a, group: np.split(group.all_reduce(x @ a), group.size)[-1 - group.rank]},
        "y",
        "another rank's part",
    ),
    "whole": ({"scattered": lambda x, a, group: group.all_reduce(x @ a)}, "y", "shape"),
    "more bytes": (
        {"scattered": lambda x, a, group: np.split(group.all_reduce(x @ a), group.size)[group.rank]},
        "scattered calls",
        "wrong collective",
    ),
    "twice as many": (
        {"scattered": lambda x, a, group: (scattered(x, a, group), scattered(x, a, group))[0]},
        "scattered calls",
        "collective too many",
    ),
    "wider": (
        {"scattered": lambda x, a, group: scattered(x.astype("f8"), a, group).astype(x.dtype)},
        "scattered sends",
        "too many bytes",
    ),
    "sign": ({"scaled": lambda x, scale: (-x * scale, x)}, "mine", "sign"),
    "zeros": ({"scaled": lambda x, scale: (x * 0, x)}, "mine", "zeros"),
    "None": ({"scaled": lambda x, scale: (None, x)}, "mine", "nothing returned"),
    "list": ({"scaled": lambda x, scale: ((x * scale).tolist(), x)}, "mine", "not an array"),
    "no tuple": ({"scaled": lambda x, scale: x * scale}, "mine", "results"),
    "nan": ({"scaled": lambda x, scale: (x * np.nan, x)}, "mine", "not finite"),
    "overflow": ({"scaled": lambda x, scale: (np.exp(x * 0 + 1000), x)}, "mine", "not finite"),
    "a group of its own": (
        {"scattered": lambda x, a, group: scattered(group.neighbours(1).all_reduce(x), a, group)},
        "",
        "",
    ),
    "dtype": ({"scaled": dtype_of_numpy}, "mine", "dtype"),
    "kept": ({"scaled": lambda x, scale: (x * scale, [x, x * scale])}, "kept keeps", "too much kept"),
    "views kept": ({"scaled": lambda x, scale: (x * scale, {"a": x, "b": x.T[:1]})}, "", ""),
    "a view kept": ({"scaled": lambda x, scale: (x * scale, x.repeat(2)[:1])}, "kept keeps", "view kept"),
    "an object kept": ({"scaled": lambda x, scale: (x * scale, slice(x))}, "kept keeps", "not an array"),
    "deadlock": ({"scattered": only_rank_zero}, "y", "deadlock"),
    "disagree": ({"scattered": other_collective}, "y", "ranks disagree"),
    "no wait": ({"scattered": never_waited_for}, "y", "left unfinished"),
    "in place": ({"scaled": changed}, "mine", "input changed"),
    "made writeable": ({"scaled": made_writeable}, "mine", "input changed"),
    "other arguments": ({"scaled": lambda x: (x, x)}, "mine", "arguments"),
    "shapes": ({"scattered": lambda x, a, group: a @ x}, "y", "shapes do not fit"),
    "exit": ({"scaled": leaves}, "mine", "exception"),
}


@pytest.mark.parametrize(("functions", "fails", "says"), SAID.values(), ids=SAID.keys())
def test_a_mistake_is_recognised(functions: Mapping[str, Any], fails: str, says: str) -> None:
    result = judged(**functions)
    if not fails:
        assert result.passed
    else:
        assert first_failure(result) == (fails, says)


def test_an_exercises_own_words_come_before_those_that_all_have() -> None:
    def with_own_words(case: Case, draw: Draw) -> Deal:
        small = deal(case, draw)
        y = small.wanted["y"]
        assert isinstance(y, Sum)
        return replace(small, mistakes={"y": [Mistake("averaged", "own words", y.finish(y.total / case.t))]})

    def averaged(x: Any, a: Any, group: Any) -> Any:
        return scattered(x, a, group) / group.size

    functions: Mapping[str, Any] = {"scattered": averaged, "scaled": scaled}
    result = check(replace(SMALL, deal=with_own_words), LocalRunner(functions, __file__))
    assert [finding.why for finding in result.findings] == ["own words"]


def test_a_failing_backward_leaves_the_points_of_forward() -> None:
    result = judged(scaled=leaves)
    assert [verdict.name for verdict in result.verdicts if verdict.finding is None] == [
        "y",
        "scattered calls",
        "scattered sends",
    ]


def test_the_submissions_own_line_is_named() -> None:
    finding = judged(scaled=changed).findings[0]
    assert finding.line.startswith("test_lab.py:")
    assert finding.line.endswith("x *= scale")


def test_what_is_printed_in_the_failing_case_is_shown_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def talks(x: Any, scale: int) -> Any:
        print(x.shape)
        return -x * scale, x

    finding = judged(scaled=talks).findings[0]
    assert finding.printed.splitlines() == ["(1, 1)"]
    assert capsys.readouterr().out == ""


def test_the_same_seed_finds_the_same() -> None:
    one, other = (judged(scattered=only_rank_zero) for _ in range(2))
    assert one.verdicts == other.verdicts


def test_what_the_contract_allows_is_what_the_ring_sends() -> None:
    def main(comm: Any) -> list[int]:
        group, x = Group(comm), np.zeros((5, 4))
        with Trace() as trace:
            group.all_reduce(x)
            group.neighbours(2).all_gather(x, axis=1)
            group.reduce_scatter(x, axis=1)
            handle = group.isend(x, (group.rank + 1) % 4)
            group.recv(x, (group.rank - 1) % 4)
            handle.wait()
        return [event.bytes_sent for event in trace.collectives]

    contract = [
        Collective("all_reduce", (5, 4)),
        Collective("all_gather", (5, 8), ranks=2),
        Collective("reduce_scatter", (5, 4)),
        Collective("recv", (5, 4)),
        Collective("send", (5, 4)),
    ]
    case = Case(4, "float64", 0, ())
    for rank, sent in enumerate(run(main, 4)):
        assert sent == [ring_bytes(one, rank, case) for one in contract]


def test_drawn_numbers_are_exact_in_every_dtype() -> None:
    draw = Draw(Case(2, "float32", 0, ()))
    for numbers in (draw(3, 4), draw.normal(3, 4)):
        assert np.array_equal(numbers.astype("float32").astype("float64"), numbers)


def deal_backward(case: Case, draw: Draw) -> Deal:
    """Deal a column-parallel linear's backward, whose two products are of the same size."""
    x, a, dy = draw(case.rows, case.hidden), draw(case.hidden, case.out), draw(case.rows, case.out)
    shares = [dyi @ ai.T for dyi, ai in zip(split(dy, case.t, 1), split(a, case.t, 1), strict=True)]
    own = case.out // case.t
    return Deal(
        given={"x": Same(x), "a": Cut(a, 1), "dy": Cut(dy, 1)},
        wanted={"dx": Sum(shares), "da": Cut(x.T @ dy, 1)},
        traffic={"backward": [Collective("all_reduce", (case.rows, case.hidden))]},
        products={"backward": [(case.rows, own, case.hidden), (case.hidden, case.rows, own)]},
    )


TIMED = Exercise(
    number=98,
    name="timed",
    title="hide an all-reduce",
    level=5,
    chapter=9,
    sizes={"rows": one_to(3, least=2), "hidden": one_to(3, least=2), "out": per_rank(3, least=2)},
    deal=deal_backward,
    calls=[Call("backward", "x a dy group matmul", "dx da")],
    properties=[Equals("dx"), Equals("da"), Takes("backward", 0.9)],
    hints=("one", "two", "three"),
)


def hidden(x: Any, a: Any, dy: Any, group: Any, matmul: Any) -> Any:
    dx = group.iall_reduce(matmul(dy, a.T))
    da = matmul(x.T, dy)
    return dx.wait(), da


def one_after_another(x: Any, a: Any, dy: Any, group: Any, matmul: Any) -> Any:
    return group.all_reduce(matmul(dy, a.T)), matmul(x.T, dy)


def begun_too_late(x: Any, a: Any, dy: Any, group: Any, matmul: Any) -> Any:
    da = matmul(x.T, dy)
    return group.iall_reduce(matmul(dy, a.T)).wait(), da


def behind_the_back(x: Any, a: Any, dy: Any, group: Any, matmul: Any) -> Any:
    dx = group.iall_reduce(dy @ a.T)
    return dx.wait(), matmul(x.T, dy)


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (hidden, ""),
        (one_after_another, "not hidden"),
        (begun_too_late, "not hidden"),
        (behind_the_back, "products unseen"),
    ],
)
def test_time_is_told_from_the_order_of_products_and_collectives(backward: Any, says: str) -> None:
    result = check(TIMED, LocalRunner({"backward": backward}, __file__), examples=20)
    assert [finding.kind for finding in result.findings] == ([says] if says else [])


# -- what a file may do --------------------------------------------------------------------------------------


HEAD = "from tpsim.comm import Group\n"
FORBIDDEN = {
    "reference": "from tpsim import reference\ndef row_linear(x, a, b, group): return x",
    "layer inside": "def row_linear(x, a, b, group):\n    import tpsim.nn\n    return x",
    "private": "def row_linear(x, a, b, group): return group._comm.allreduce(x @ a) + b",
    "importlib": "import importlib\ndef row_linear(x, a, b, group): return x",
    "no function": "def linear(x, a, b, group): return x",
}


@pytest.mark.parametrize("source", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_an_exercise_is_about_may_not_be_imported(source: str, tmp_path: Path) -> None:
    path = tmp_path / "02_row_bias.py"
    path.write_text(HEAD + source, encoding="utf-8")
    assert {finding.kind for finding in check_file(exercises()[2], path).findings} == {"forbidden"}


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "02_row_bias.py"
    path.write_text("def row_linear(x, a, b, group)\n    return x\n", encoding="utf-8")
    finding = check_file(exercises()[2], path).findings[0]
    assert finding.line == "02_row_bias.py:1: def row_linear(x, a, b, group)"


# -- the folder and the commands -----------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Workbook:
    return Workbook.start(tmp_path / "lab")[0]


def tpsim(book: Workbook, *words: str) -> tuple[int, str]:
    """Run `tpsim lab` on a folder; return its exit code and what it prints."""
    result = CliRunner().invoke(app, ["lab", *words, "--dir", str(book.folder)])
    return result.exit_code, result.output or str(result.exception)


def write(book: Workbook, number: int, which: str) -> None:
    exercise = book.exercises[number]
    book.path(exercise).write_bytes((exercise.folder / f"{which}.py").read_bytes())


def test_start_copies_every_task_and_overwrites_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["lab", "start", str(tmp_path)])
    assert result.exit_code == 0
    files = sorted(tmp_path.glob("*.py"))
    assert [file.name for file in files] == [one.file_name for one in EXERCISES]
    files[0].write_text("my work", encoding="utf-8")
    files[1].unlink()
    assert "1 exercises written" in CliRunner().invoke(app, ["lab", "start", str(tmp_path)]).output
    assert files[0].read_text(encoding="utf-8") == "my work"
    assert files[1].is_file()


def test_check_list_and_solution_follow_the_students_work(book: Workbook) -> None:
    assert tpsim(book, "check", "2")[0] == 1
    code, said = tpsim(book, "solution", "2")
    assert code == 1
    assert "opens when your own passes" in said
    write(book, 2, "wrong_bias_everywhere")
    code, said = tpsim(book, "check", "2")
    assert code == 1
    assert "2/5 points" in said
    assert "t = 2" in said
    write(book, 2, "other")
    code, said = tpsim(book, "check")
    assert code == 0
    assert "5/5 points" in said
    assert f"1 of {len(EXERCISES)} passed" in tpsim(book, "list")[1]
    assert "group.all_reduce(x @ a) + b" in tpsim(book, "solution", "2")[1]
    assert "def split_columns" in tpsim(book, "solution", "1", "--reveal")[1]


def test_hints_come_one_at_a_time(book: Workbook) -> None:
    for level in (1, 2, 3, 3):
        assert tpsim(book, "hint", "1")[1].count("/3  ") == level


def test_reset_brings_the_task_back_and_keeps_the_work(book: Workbook) -> None:
    write(book, 3, "solution")
    tpsim(book, "check", "3")
    assert tpsim(book, "reset", "3")[0] == 0
    assert not book.begun(book.exercises[3])
    assert (book.folder / ".backup" / book.exercises[3].file_name).read_text() in (
        (book.exercises[3].folder / "solution.py").read_text()
    )
    assert not Workbook.open(book.folder).standing(book.exercises[3]).passed


def test_the_folder_is_found_from_inside(book: Workbook, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = book.folder / "notes"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert CliRunner().invoke(app, ["lab", "list"]).exit_code == 0


@pytest.mark.parametrize("words", [["check", "77"], ["hint", "0"], ["solution", "3"]])
def test_what_cannot_be_is_said_in_three_parts(words: list[str], book: Workbook) -> None:
    said = tpsim(book, *words)[1]
    assert re.fullmatch(r"[^:]+: .+; .+", said)


def test_a_folder_without_exercises_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no exercises; make some"):
        Workbook.open(tmp_path)


def test_a_saved_file_is_noticed_once(book: Workbook) -> None:
    saves: Iterator[int] = iter([2, 0, 3])

    def wait() -> None:
        if number := next(saves):
            path = book.path(book.exercises[number])
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))

    assert [one.number for one in islice(saved(book, wait), 2)] == [2, 3]


def test_a_teachers_own_exercise_needs_a_folder_and_nothing_else(tmp_path: Path) -> None:
    ours = exercises()[2]
    theirs = tmp_path / "mine" / "e90_row_bias"
    theirs.mkdir(parents=True)
    for file in ours.folder.glob("*.py"):
        (theirs / file.name).write_text(file.read_text().replace("number=2", "number=90"))
    result = CliRunner().invoke(
        app, ["lab", "start", str(tmp_path / "lab"), "--with", str(tmp_path / "mine")]
    )
    assert result.exit_code == 0
    book = Workbook.open(tmp_path / "lab")
    assert book.exercises[90].file_name == "90_row_bias.py"
    assert book.path(book.exercises[90]).is_file()
