"""Grades as files: CSV for a spreadsheet, JUnit XML for CI, and Gradescope's results.json."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree

from tpsim.lab.grading.grade import Grade

COLUMNS = ("student", "exercise", "points", "possible", "status", "why", "seconds")


def to_csv(grades: Iterable[Grade]) -> str:
    """Return one line for each student and exercise, under the header `COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in grades:
        why, seconds = _cell(one.why), f"{one.seconds:.2f}"
        writer.writerow([_cell(one.student), one.title, one.points, one.possible, one.status, why, seconds])
    return text.getvalue()


def _cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: a submission may have written it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def to_junit(grades: Iterable[Grade]) -> str:
    """Return a test suite for each student, and a test case for each exercise."""
    root = ElementTree.Element("testsuites")
    for student, own in by_student(grades).items():
        failed = sum(one.status != "passed" for one in own)
        seconds = f"{sum(one.seconds for one in own):.3f}"
        names = {"name": _plain(student), "tests": str(len(own)), "failures": str(failed), "time": seconds}
        suite = ElementTree.SubElement(root, "testsuite", names)
        for one in own:
            case = {"classname": _plain(student), "name": one.title, "time": f"{one.seconds:.3f}"}
            element = ElementTree.SubElement(suite, "testcase", case)
            if one.status != "passed":
                what = f"{one.status}: {one.points} of {one.possible} points"
                failure = ElementTree.SubElement(element, "failure", {"message": what, "type": one.status})
                failure.text = _plain("\n".join(_lines(one)))
            if one.printed:
                ElementTree.SubElement(element, "system-out").text = _plain(one.printed)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Return text without the characters that XML can't hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def to_gradescope(grades: Sequence[Grade]) -> dict[str, Any]:
    """Return one student's grades as Gradescope's autograder reads them: a test a property.

    References
    ----------
    Gradescope, "Autograder specifications": results.json.
    """
    tests: list[dict[str, Any]] = []
    for one in grades:
        rows = [(judged.name, judged.points, judged.possible, judged.failing) for judged in one.judged]
        for number, (name, points, possible, failing) in enumerate(
            rows or [("handed in", 0, one.possible, one.why)], start=1
        ):
            tests.append(
                {
                    "number": f"{one.exercise}.{number}",
                    "name": f"{one.title}: {name}",
                    "score": points,
                    "max_score": possible,
                    "status": "failed" if failing else "passed",
                    "output": failing,
                    "output_format": "text",
                    "visibility": "visible",
                }
            )
    return {
        "score": sum(one.points for one in grades),
        "execution_time": round(sum(one.seconds for one in grades), 3),
        "output": "\n".join(f"{one.title}: {one.points} of {one.possible}" for one in grades),
        "output_format": "text",
        "visibility": "visible",
        "tests": tests,
    }


def by_student(grades: Iterable[Grade]) -> dict[str, list[Grade]]:
    """Return the grades of each student."""
    students: dict[str, list[Grade]] = {}
    for one in grades:
        students.setdefault(one.student, []).append(one)
    return students


def _lines(grade: Grade) -> list[str]:
    return [f"{one.name}: {one.failing}" for one in grade.judged if one.failing] or [grade.why]
