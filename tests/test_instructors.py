"""The instructors' guide: what it names exists, what it quotes is said, and its own exercise works."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tpsim.cli import app
from tpsim.lab.checking import Exercise, check_file, exercises, submissions
from tpsim.lab.grading.grade import grade
from tpsim.lab.grading.submissions import read_submissions
from tpsim.lab.workbook import Workbook
from tpsim.studies import tutorials

TOP = Path(__file__).parent.parent
GUIDE = TOP / "tutorials" / "INSTRUCTORS.md"
README = TOP / "README.md"
TEXT = GUIDE.read_text(encoding="utf-8")
OURS = exercises()
COMMAND = re.compile(r"(?:^|`|/|: )(tpsim [a-z][^`#\n]*)", re.MULTILINE)
FILES = re.compile(r"\*\*`(my-exercises/[^`]+)`\*\*\n\n```python\n(.*?)```", re.DOTALL)
MISTAKES = re.findall(r"\| “(.+?)” \| \[(\d+)\]\((.+?)\) \|", TEXT)


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def commands(text: str) -> list[str]:
    return sorted({" ".join(found.split()) for found in COMMAND.findall(text)})


def in_class() -> str:
    return README.read_text(encoding="utf-8").split("\n## In class", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("line", commands(TEXT) + commands(in_class()))
def test_every_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    _, *words = line.split()
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_file_that_it_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("https://")]
    assert len(links) > len(OURS)
    for link in links:
        assert (GUIDE.parent / link).exists(), link


def test_every_chapter_is_listed_with_its_title_and_minutes() -> None:
    rows = section("Chapters and what they are for")
    for number, chapter in enumerate(tutorials.chapters(), 1):
        title = tutorials.title(chapter).split(" · ", 1)[1]
        found = re.search(r"\*(\d+) minutes", chapter.read_text(encoding="utf-8"))
        assert found is not None
        assert f"| {number} | [{title}]({chapter.name}) | {found[1]} | " in rows


def test_every_exercise_is_listed_as_it_is_registered() -> None:
    rows = [line for line in section("Exercises").splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(OURS)
    for row, one in zip(rows, OURS.values(), strict=True):
        registered = f"{one.number} | {one.title} | {'★' * one.level} | {one.chapter} | {one.points}"
        assert row.startswith(f"| {registered} | ")


def test_two_weeks_have_every_chapter_and_exercise_once() -> None:
    rows = [line.split("|") for line in section("Two weeks").splitlines() if re.match(r"\| \d", line)]
    handed_in = sorted(int(number) for row in rows for number in re.findall(r"\d+", row[3]))
    assert handed_in == list(OURS)
    chapters = {int(number) for row in rows for number in re.findall(r"\d+", row[2].split(";")[0])}
    assert chapters == set(range(1, len(tutorials.chapters()) + 1))


def test_the_afternoon_takes_four_hours() -> None:
    minutes = 0
    for start, row in re.findall(r"\| (\d:\d\d) \| (\d+) \|", section("One afternoon")):
        hours, past = start.split(":")
        assert minutes == 60 * int(hours) + int(past)
        minutes += int(row)
    assert minutes == 240


@pytest.mark.parametrize(("words", "number", "link"), MISTAKES)
def test_the_check_says_what_is_quoted(words: str, number: str, link: str) -> None:
    result = check_file(OURS[int(number)], GUIDE.parent / link)
    said = "\n".join(f"{finding.what}\n{finding.why}" for finding in result.findings)
    assert words in said


@pytest.fixture
def example(tmp_path: Path) -> Exercise:
    """The guide's own exercise, written out as it says."""
    for path, source in FILES.findall(TEXT):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source, encoding="utf-8")
    return exercises(tmp_path / "my-exercises")[50]


def test_the_example_judges_right_and_wrong_solutions(example: Exercise) -> None:
    for path in submissions(example, ["solution", "other"]):
        assert check_file(example, path).passed
    (wrong,) = submissions(example, ["wrong_*"])
    assert check_file(example, wrong).findings[0].kind == "mean of means"
    untouched = check_file(example, example.folder / "task.py")
    assert {finding.kind for finding in untouched.findings} == {"not implemented"}


def test_the_example_is_started_and_graded_beside_ours(example: Exercise, tmp_path: Path) -> None:
    book, new = Workbook.start(tmp_path / "lab", (example.folder.parent,))
    assert len(new) == len(OURS) + 1
    solved = (example.folder / "solution.py").read_bytes()
    (tmp_path / "submissions" / "ada").mkdir(parents=True)
    (tmp_path / "submissions" / "ada" / book.path(example).name).write_bytes(solved)
    (ada,) = read_submissions(tmp_path / "submissions", [example.file_name])
    assert grade(None, ada, example).points == example.points
