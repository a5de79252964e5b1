"""`tpsim precision` as a user meets it, its picture, and what it refuses."""

import json
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tpsim import plots
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.studies.precision import DTYPES, Precision, Sizes, precision

SMALL = ["--seq", "4", "--hidden", "16", "--heads", "4", "--ranks", "1,2,4"]


def tpsim(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpsim", "precision", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@cache
def study() -> Precision:
    return precision(Sizes(seq=4, hidden=16, heads=4), ranks=(2, 4))


def test_precision_prints_a_row_for_each_dtype_and_number_of_ranks(tmp_path: Path) -> None:
    done = tpsim(tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    for dtype in DTYPES:
        (at,) = (i for i, row in enumerate(rows) if row[:2] == [dtype, "1"])
        assert rows[at][-1] == "1.00"
        assert [row[0] for row in rows[at + 1 : at + 4]] == ["2", "4", "4,"]
        assert rows[at + 3][1] == "bug"
    assert "times what one device is" in done.stdout
    assert "row-bias-on-every-rank" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_precision_draws_where_it_is_asked_to_and_prints_json(tmp_path: Path) -> None:
    done = tpsim(tmp_path, *SMALL, "--figures", "pictures", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(
        json.dumps(asdict(precision(Sizes(2, 4, 16, 4), ranks=(1, 2, 4))))
    )
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["precision.png"]
    assert (tmp_path / "pictures" / "precision.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--ranks 1,3", "8 heads can't be cut evenly among 3 ranks; pick divisors of 8"),
        ("--ranks 0", "8 heads can't be cut evenly among 0 ranks"),
        ("--ranks two", "ranks 'two' is not a list of numbers; write them like 1,2,4"),
        ("--hidden 63", "hidden 63 is not divisible by 8 heads; pick a multiple"),
        ("--batch 0", "batch 0 is too few; pick 1 or more"),
        ("--seed -1", "seed -1 can't seed a generator; pick 0 or more"),
        ("--seq 2 --figures /dev/null/x", "figures can't be written to /dev/null/x"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = tpsim(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_study_knows_its_runs_by_dtype_and_ranks() -> None:
    assert study().dtypes() == list(DTYPES)
    assert study().ranks() == [2, 4]
    runs = study().of("bfloat16", 4, "float32")
    assert [row.algorithm for row in runs] == list(ALGORITHMS)
    assert len(study().of("bfloat16", 4)) == 2 * len(runs)


def panels(buggy: bool = True) -> list[Any]:
    rows, wrong = ([asdict(row) for row in of] for of in (study().rows, study().buggy))
    return list(plots.precision(rows, wrong if buggy else ()).axes)


def test_the_picture_has_every_error_of_y() -> None:
    left, right = panels()
    assert left.get_yscale() == "log"
    for dtype, container in zip(DTYPES, left.containers, strict=True):
        middles = container.lines[0].get_ydata()
        for middle, ranks in zip(middles, (1, 2, 4), strict=True):
            errors = [row.y for row in study().of(dtype, ranks)]
            assert middle == pytest.approx((min(errors) + max(errors)) / 2)
    assert [text.get_text() for text in left.texts] == [*DTYPES, "with a bug planted"]
    marks = {line.get_ydata()[0] for line in left.lines if len(line.get_ydata()) == 1}
    assert marks == {row.y for row in study().buggy}
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert sorted(labels) == sorted([*DTYPES, "bfloat16, summed in float32", "float16, summed in float32"])
    assert all(container.lines[0].get_ydata()[0] == 1 for container in right.containers)  # one device


def test_dtypes_are_told_apart_without_colour() -> None:
    left, _ = panels(buggy=False)
    assert len({container.lines[0].get_marker() for container in left.containers}) == len(DTYPES)
