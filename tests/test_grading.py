"""Grading: submissions that nobody trusts get what they deserve, and do nothing to anybody else."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hostile import HOSTILE, SOLUTION

from tpsim import cli
from tpsim.lab.checking import Exercise, exercises, submissions
from tpsim.lab.grading.grade import Grade, grade
from tpsim.lab.grading.host import Host
from tpsim.lab.grading.journal import Journal
from tpsim.lab.grading.limits import Limits
from tpsim.lab.grading.session import Settings, grade_all
from tpsim.lab.grading.submissions import Submission

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no sandbox for submissions")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines files and system calls")
EXERCISE = exercises()[2]
RIGHT = (EXERCISE.folder / "solution.py").read_bytes()
LIMITS = Limits(cpu=1, answer=60.0, memory=128 << 20)
EXAMPLES = 8


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(LIMITS) as one:
        yield one


def handed_in(source: str | bytes, student: str = "ada", exercise: Exercise = EXERCISE) -> Submission:
    data = source.encode() if isinstance(source, str) else source
    return Submission(student, {exercise.file_name: data})


def graded(host: Host, source: str | bytes, examples: int = EXAMPLES) -> Grade:
    return grade(host, handed_in(source), EXERCISE, examples=examples)


# -- the sandbox ------------------------------------------------------------------------------------------


def test_right_and_wrong_solutions_are_judged_as_by_the_lab_in_the_same_words(host: Host) -> None:
    assert SOLUTION in submissions(EXERCISE)
    for path in [*submissions(EXERCISE), EXERCISE.folder / "task.py"]:
        here = handed_in(path.read_bytes())
        outside = grade(None, here, EXERCISE, examples=4)
        inside = grade(host, here, EXERCISE, examples=4)
        assert (inside.points, inside.why) == (outside.points, outside.why), path


@pytest.mark.parametrize("number", exercises())
def test_the_solution_of_every_exercise_passes_in_the_sandbox(host: Host, number: int) -> None:
    exercise = exercises()[number]
    right = handed_in((exercise.folder / "solution.py").read_bytes(), exercise=exercise)
    assert grade(host, right, exercise, examples=3).points == exercise.points
    task = handed_in((exercise.folder / "task.py").read_bytes(), exercise=exercise)
    assert "it is not written yet" in grade(host, task, exercise, examples=3).why


@LINUX
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_submission_costs_its_student_the_exercise_and_says_why(host: Host, name: str) -> None:
    source, why = HOSTILE[name]
    got = graded(host, source)
    assert got.status in ("failed", "stopped")
    assert why in got.why
    assert got.points < EXERCISE.points
    assert got.judged[0].failing
    assert graded(host, RIGHT, examples=2).points == EXERCISE.points  # the next one is not touched


def test_a_submission_that_sleeps_is_ended() -> None:
    with Host(Limits(cpu=5, answer=1.0)) as host:
        got = graded(
            host,
            "import numpy as np\ntime = getattr(np, '__builtins__')['__import__']('time')\ntime.sleep(99)\n",
        )
        assert "did not answer for 1 s" in got.why


@LINUX
def test_no_process_is_left_of_a_submission(host: Host) -> None:
    for name in ("closes_its_connection", "exit_0", "fork_bomb"):
        graded(host, HOSTILE[name][0])
    process = host._process.pid
    assert Path(f"/proc/{process}/task/{process}/children").read_text() == ""


def test_the_folder_of_a_submission_is_gone_after_grading(host: Host) -> None:
    graded(host, RIGHT)
    assert list(host.scratch.iterdir()) == []


def test_what_a_submission_prints_is_in_its_report(host: Host) -> None:
    source = "def row_linear(x, a, b, group):\n    print('shape', x.shape)\n    return x\n"
    assert "shape (1, " in graded(host, source).printed


def test_the_same_submission_gets_the_same_grade(host: Host) -> None:
    source = (
        "import numpy as np\ndef row_linear(x, a, b, group):\n"
        "    return group.all_reduce(x @ a) + b * np.random.rand()\n"
    )
    first, second = graded(host, source), graded(host, source)
    assert first.judged == second.judged


# -- a whole class ----------------------------------------------------------------------------------------


def class_of(*sources: str | bytes) -> list[Submission]:
    return [handed_in(source, f"student{number}") for number, source in enumerate(sources)]


@LINUX
def test_many_processes_give_the_grades_of_one() -> None:
    handed = class_of(RIGHT, HOSTILE["exit_0"][0], (EXERCISE.folder / "wrong_mean.py").read_bytes())
    handed.append(Submission("late", {}))
    one, two = (
        grade_all(handed, [EXERCISE], Settings(examples=EXAMPLES, limits=LIMITS, jobs=jobs), Journal(None))
        for jobs in (1, 2)
    )
    assert [(g.student, g.judged) for g in one] == [(g.student, g.judged) for g in two]
    assert [g.status for g in one] == ["passed", "stopped", "failed", "missing"]


def test_a_grader_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    path, settings_ = tmp_path / "journal", Settings(examples=EXAMPLES, limits=LIMITS)
    handed = class_of(RIGHT, b"", b"x = 1")
    seen: list[Grade] = []

    def stop_after_two(one: Grade) -> None:
        seen.append(one)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade_all(handed, [EXERCISE], settings_, Journal(path), stop_after_two)
    with path.open("a") as file:
        file.write('{"key": "half')
    journal = Journal(path)
    both = grade_all(handed, [EXERCISE], settings_, journal)
    assert both[:2] == seen
    assert grade_all(handed, [EXERCISE], settings_, Journal(path, fresh=True))[0].points == EXERCISE.points


def test_the_same_file_of_two_students_is_graded_once() -> None:
    journal = Journal(None)
    first, second = grade_all(class_of(RIGHT, RIGHT), [EXERCISE], Settings(examples=EXAMPLES), journal)
    assert (first.student, second.student) == ("student0", "student1")
    assert first.seconds == second.seconds


def test_students_have_cases_of_their_own_if_asked() -> None:
    seeds = Settings(seed=1, per_student_seed=True)
    assert seeds.seed_of("ada") != seeds.seed_of("bob")
    assert seeds.seed_of("ada") == Settings(seed=1, per_student_seed=True).seed_of("ada")
    assert Settings(seed=1).seed_of("ada") == Settings(seed=1).seed_of("bob") == 1


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`tpsim lab grade` in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["tpsim", "lab", "grade", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return call


@LINUX
def test_the_command_writes_all_reports(command: Callable[..., int], tmp_path: Path) -> None:
    for student in ("ada", "bob"):
        (tmp_path / "handed" / student).mkdir(parents=True)
        (tmp_path / "handed" / student / EXERCISE.file_name).write_bytes(RIGHT)
    options = ["--only", "2", "--jobs", "1", "--examples", "5", "--junit", "r.xml", "--gradescope", "scope"]
    assert command("handed", *options) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert [(row["student"], row["status"]) for row in rows] == [("ada", "passed"), ("bob", "passed")]
    assert len(ElementTree.parse(tmp_path / "r.xml").getroot()) == 2
    scope = json.loads((tmp_path / "scope" / "bob" / "results.json").read_text())
    assert scope["score"] == EXERCISE.points


def test_the_command_refuses_where_submissions_can_not_be_confined_unless_told_to_trust_them(
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / f"ada_{EXERCISE.file_name}").write_bytes(RIGHT)
    monkeypatch.setattr("tpsim.lab.grading.session.unprotected", lambda: ["files", "memory"])
    options = [".", "--only", "2", "--jobs", "1", "--examples", "5"]
    assert command(*options) == 2
    assert "pass --trust" in capsys.readouterr().err
    assert command(*options, "--trust") == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "is not there"),
        ([".", "--only", "99"], "99 is not known"),
        (["."], "holds no submissions"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_arguments(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert command(*words) == 2
    assert says in capsys.readouterr().err
