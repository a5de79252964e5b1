"""`tpsim validate`: every bound holds, and a bound that does not is found."""

import json
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpsim.cli import main
from tpsim.studies import validate
from tpsim.studies.validate import Comparison, Group, groups
from tpsim.studies.validate.bounds import Bound, Errors, errors, exact, falls, ordering, points

ROWS = st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(-0.5, 0.5)), min_size=1, max_size=30)


def rows(*pairs: tuple[float, float]) -> list[Comparison]:
    return [Comparison("a group", f"row {i}", theirs, ours, "s") for i, (theirs, ours) in enumerate(pairs)]


@given(ROWS)
def test_errors_are_those_of_the_sorted_rows(drawn: list[tuple[float, float]]) -> None:
    compared = rows(*((theirs, theirs * (1 + off)) for theirs, off in drawn))
    found = Errors.of(compared)
    sizes = sorted(abs(row.error) for row in compared)
    assert found.mean == pytest.approx(sum(sizes) / len(sizes))
    assert sum(size <= found.p90 for size in sizes) >= 0.9 * len(sizes)
    assert sum(size < found.p90 for size in sizes) < 0.9 * len(sizes)
    assert abs(found.worst.error) == sizes[-1]


@pytest.mark.parametrize(
    ("bound", "inside", "outside"),
    [
        (exact(), [(3.0, 3.0), (7.0, 7.0)], [(3.0, 3.0), (7.0, 7.000001)]),
        (points(0.15, "points"), [(50.0, 50.15)], [(50.0, 50.0), (8.0, 8.16)]),
        (errors(mean=0.05), [(1.0, 1.08), (1.0, 0.99)], [(1.0, 1.08), (1.0, 0.97)]),
        (errors(worst=0.08), [(1.0, 1.07)] * 3, [(1.0, 1.0), (1.0, 0.91)]),
        (errors(p90=0.15), [(1.0, 1.0)] * 9 + [(1.0, 2.0)], [(1.0, 1.0)] * 8 + [(1.0, 2.0)] * 2),
        (falls(), [(100.0, 90.0), (95.0, 89.0)], [(100.0, 90.0), (95.0, 91.0)]),
        (ordering(), [(1.0, 5.0), (2.0, 6.0)], [(1.0, 5.0), (2.0, 4.0)]),
    ],
    ids=lambda value: value.words if isinstance(value, Bound) else "",
)
def test_a_bound_tells_inside_from_outside(
    bound: Bound, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    assert bound.holds(rows(*inside))
    assert not bound.holds(rows(*outside))


@pytest.mark.parametrize("group", groups(), ids=lambda group: group.name)
def test_every_bound_holds(group: Group) -> None:
    result = group.result()
    assert result.rows
    assert result.holds, [(row.what, row.theirs, row.ours) for row in result.rows]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tpsim", "validate", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capsys.readouterr().out

    return command


def few() -> list[Group]:
    return [
        Group("good", lambda: rows((1.0, 1.0), (2.0, 2.0)), exact()),
        Group("bad", lambda: rows((4.0, 5.0)), errors(mean=0.05)),
        Group("shown", lambda: rows((1.0, 3.0))),
    ]


def test_a_broken_bound_is_named_and_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setattr(validate, "groups", few)
    code, out = run()
    assert code == 1
    assert "out of bounds: bad" in out
    code, out = run("--all")
    assert "+25.0" in out.split("bad")[-2]
    monkeypatch.setattr(validate, "groups", lambda: [few()[0], few()[2]])
    code, out = run()
    assert code == 0
    assert "all 1 bounds hold" in out


def test_json_has_every_row(monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str]]) -> None:
    monkeypatch.setattr(validate, "groups", few)
    code, out = run("--json")
    found = json.loads(out)
    assert code == 1
    assert [(group["group"], group["holds"]) for group in found] == [
        ("good", True),
        ("bad", False),
        ("shown", True),
    ]
    assert found[1]["rows"][0]["error"] == 0.25


def test_the_table_fits_80_columns(run: Callable[..., tuple[int, str]]) -> None:
    code, out = run()
    assert code == 0, out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
