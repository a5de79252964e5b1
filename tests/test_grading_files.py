"""What is handed in, read without harm; and grades, written as reports."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tpsim.lab.checking import exercises
from tpsim.lab.grading.grade import Grade, Judged
from tpsim.lab.grading.reports import to_csv, to_gradescope, to_junit
from tpsim.lab.grading.submissions import MOST_FILE, read_submissions

EXERCISE = exercises()[2]
RIGHT = (EXERCISE.folder / "solution.py").read_bytes()


# -- what is handed in ------------------------------------------------------------------------------------


def test_folders_zips_and_single_files_are_read(tmp_path: Path) -> None:
    name = EXERCISE.file_name
    (tmp_path / "ada" / "deep").mkdir(parents=True)
    (tmp_path / "ada" / "deep" / name).write_bytes(RIGHT)
    with zipfile.ZipFile(tmp_path / "bob.zip", "w") as archive:
        archive.writestr(f"homework/{name}", RIGHT)
        archive.writestr(f"__MACOSX/{name}", b"noise")
    (tmp_path / f"cleo_{name}").write_bytes(RIGHT)
    (tmp_path / "notes.txt").write_text("not a submission")
    found = read_submissions(tmp_path, [name])
    assert [one.student for one in found] == ["ada", "bob", "cleo"]
    assert all(one.files == {name: RIGHT} and not one.problems for one in found)


def test_one_students_folder_is_one_submission(tmp_path: Path) -> None:
    (tmp_path / EXERCISE.file_name).write_bytes(RIGHT)
    (one,) = read_submissions(tmp_path, [EXERCISE.file_name])
    assert one.files == {EXERCISE.file_name: RIGHT}


def test_a_zip_writes_nowhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "eve.zip", "w") as archive:
        archive.writestr("../../escaped.py", b"x = 1")
        archive.writestr("/tmp/absolute.py", b"x = 1")
    (one,) = read_submissions(tmp_path, [EXERCISE.file_name])
    assert set(one.files) == {"escaped.py", "absolute.py"}
    assert [path.name for path in tmp_path.iterdir()] == ["eve.zip"]


@pytest.mark.parametrize("lies", [False, True])
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, lies: bool) -> None:
    path = tmp_path / "eve.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(EXERCISE.file_name, bytes(50 << 20))
    if lies:  # the directory says that it is small
        path.write_bytes(
            path.read_bytes().replace((50 << 20).to_bytes(4, "little"), (9).to_bytes(4, "little"))
        )
    (one,) = read_submissions(tmp_path, [EXERCISE.file_name])
    assert one.files == {}
    assert one.problems


def test_links_and_large_and_broken_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "ada" / EXERCISE.file_name).symlink_to(tmp_path / "secret.txt")
    (tmp_path / "ada" / "large.py").write_bytes(bytes(MOST_FILE + 1))
    (tmp_path / "bob.zip").write_bytes(b"PK but no zip")
    ada, bob = read_submissions(tmp_path, [EXERCISE.file_name])
    assert ada.files == bob.files == {}
    assert "larger" in ada.problems[0]
    assert "can't be read" in bob.problems[0]


# -- reports ----------------------------------------------------------------------------------------------

BOBS = Judged("y", 0, 3, "a\x00 <b>"), Judged("z", 2, 2)
GRADES = [
    Grade("=cmd()", 2, "02_row_bias", 5, 5, "passed", "", 0.5, (Judged("y is right", 5, 5),)),
    Grade(
        "bob",
        2,
        "02_row_bias",
        2,
        5,
        "failed",
        "a\x00 <b>",
        0.5,
        (Judged("y", 0, 3, "a\x00 <b>"), Judged("z", 2, 2)),
    ),
    Grade("cleo", 2, "02_row_bias", 0, 5, "missing", "02_row_bias.py was not handed in"),
]


def test_the_table_has_a_line_for_each_student_and_exercise_and_no_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(GRADES))))
    assert [(row["points"], row["status"]) for row in rows] == [
        ("5", "passed"),
        ("2", "failed"),
        ("0", "missing"),
    ]
    assert rows[0]["student"] == "'=cmd()"


def test_junit_is_xml_whatever_a_submission_said() -> None:
    suites = ElementTree.fromstring(to_junit(GRADES))
    assert [suite.get("failures") for suite in suites] == ["0", "1", "1"]
    assert suites[1][0][0].text == "y: a? <b>"


def test_gradescope_gets_a_test_for_each_property() -> None:
    result = to_gradescope(GRADES[1:2])
    assert result["score"] == 2
    assert [(t["score"], t["max_score"], t["status"]) for t in result["tests"]] == [
        (0, 3, "failed"),
        (2, 2, "passed"),
    ]
    assert to_gradescope(GRADES[2:])["tests"][0]["max_score"] == 5
