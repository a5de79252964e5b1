"""The bug hunt: each patient fails as it should, passes once mended, and tells symptoms, not causes."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tpsim.cli import app
from tpsim.lab.bughunt import Casebook, Examination, Patient, examine, growth, patients, symptoms
from tpsim.lab.bughunt.examination import Seen, Value
from tpsim.lab.checking import Draw, check_file
from tpsim.lab.workbook import Workbook
from tpsim.lab.zoo import ZOO

PATIENTS = list(patients().values())
EXAMPLES = 30

each = pytest.mark.parametrize("patient", PATIENTS, ids=lambda patient: patient.exercise.name)


# -- every patient -----------------------------------------------------------------------------------------


@each
def test_the_sick_file_fails_in_the_way_that_it_is_known_for(patient: Patient) -> None:
    result = check_file(patient.exercise, patient.sick, examples=EXAMPLES)
    name, finding = next((one.name, one.finding) for one in result.verdicts if one.finding)
    assert finding is not None
    assert (name, finding.kind) == (patient.fails, patient.kind)
    smallest = r"t = [23]," if patient.in_zoo().hides_at_one_rank else r"t = 1,"
    assert re.match(smallest, finding.case)


@each
def test_the_mended_file_passes(patient: Patient) -> None:
    result = check_file(patient.exercise, patient.mended, examples=EXAMPLES)
    assert result.findings == []


@each
def test_one_rank_shows_the_bug_only_where_the_zoo_says_so(patient: Patient) -> None:
    one, *several = examine(patient, patient.sick).runs
    assert one.right == patient.in_zoo().hides_at_one_rank
    assert not any(seen.right for seen in several)
    assert examine(patient, patient.mended).right


@each
def test_a_patient_is_a_readable_file_with_few_wrong_lines(patient: Patient) -> None:
    source = patient.sick.read_text(encoding="utf-8")
    assert 30 <= len(source.splitlines()) <= 70
    assert 1 <= len(patient.lines()) <= 2
    assert source.startswith(f'"""Patient {patient.exercise.number} · ')
    assert f"\nRun it with: tpsim lab bugs run {patient.exercise.number}\n" in source
    assert len(set(patient.exercise.hints)) == 3


@each
def test_its_threads_are_those_of_the_zoo(patient: Patient) -> None:
    known = {thread.split("#")[-1] for bug in ZOO.values() for thread in bug.seen_in}
    assert {thread.split("#")[-1] for thread in patient.threads} <= known
    mine = {thread.split("#")[-1] for thread in patient.in_zoo().seen_in}
    assert not patient.threads or mine & {thread.split("#")[-1] for thread in patient.threads}
    assert all(re.fullmatch(r"https://github.com/[\w-]+/[\w-]+/issues/\d+", link) for link in patient.links)


def test_patients_are_numbered_without_gaps_and_have_bugs_of_their_own() -> None:
    assert [patient.exercise.number for patient in PATIENTS] == list(range(1, len(PATIENTS) + 1))
    assert len({patient.bug for patient in PATIENTS}) == len(PATIENTS)


MENDS = {
    "fused_residual": (
        "group.all_reduce(matmul_add(x, weight, residual))",
        "group.all_reduce(x @ weight) + residual",
    ),
    "serving_step": ("if free >= need:", "if fit_everywhere(free, group) >= need:"),
    "shared_kv": (
        "buffer = np.ascontiguousarray(grad)\n    group.all_reduce(buffer, out=buffer)",
        "group.all_reduce(grad, out=grad)",
    ),
    "first_half": ("dx = dz @ a.T", "dx = group.all_gather(dz, axis=1) @ group.all_gather(a, axis=1).T"),
}
"""Other ways to mend; the last is right and costs more than the contract allows."""


@pytest.mark.parametrize("name", list(MENDS)[:-1])
def test_another_mend_passes_too(name: str, tmp_path: Path) -> None:
    assert check_file(by_name(name).exercise, mended_otherwise(name, tmp_path), examples=EXAMPLES).passed


def test_a_mend_that_sends_more_than_the_contract_does_not_pass(tmp_path: Path) -> None:
    patient = by_name("first_half")
    result = check_file(patient.exercise, mended_otherwise("first_half", tmp_path), examples=EXAMPLES)
    assert [one.name for one in result.verdicts if one.finding] == ["backward sends"]


def by_name(name: str) -> Patient:
    return next(patient for patient in PATIENTS if patient.exercise.name == name)


def mended_otherwise(name: str, folder: Path) -> Path:
    source = by_name(name).sick.read_text(encoding="utf-8")
    sick, mend = MENDS[name]
    assert source.count(sick) == 1
    path = folder / f"{name}.py"
    path.write_text(source.replace(sick, mend), encoding="utf-8")
    return path


# -- symptoms ----------------------------------------------------------------------------------------------

Y = np.array([[1.0, 2, 3], [4, 5, 7]])


def said(*got: Any, must: np.ndarray = Y, alike: bool = True) -> str:
    seen = Seen(len(got), [Value("y", got, [must] * len(got), alike)], {})
    return " | ".join(symptoms(seen))


def test_symptoms_say_which_numbers_are_off_and_by_how_much() -> None:
    assert said(Y, Y) == ""
    assert said(2 * Y, 2 * Y) == "y is 2 times what it must be, on every rank, in every entry"
    assert said(Y / 4, Y / 4) == "y is 1/4 of what it must be, on every rank, in every entry"
    assert said(Y + 0.5, Y + 0.5) == "y is off on every rank, by +0.5 in every entry"
    in_rows = Y + np.array([1, 0, -2])
    assert said(in_rows, in_rows) == "y is off on every rank, by the same in every row: [1 0 -2]"
    one = Y + np.array([[0, 0, 1], [0, 0, 2]])
    assert said(Y, one) == (
        "y is off on rank 1, by up to 2; of its 3 columns, columns 0, 1 are right; "
        "and the ranks do not have the same, which they must"
    )
    assert said(Y, one, alike=False).endswith("columns 0, 1 are right")
    assert said(-Y, -Y).startswith("y is -1 times")
    assert said(Y[:1], Y) == "y has another shape on rank 0: (1, 3), must be (2, 3)"
    assert said(Y, np.inf * Y) == "y has entries that are not finite on rank 1"


@pytest.mark.parametrize("nothing", [None, [[1], [2, 3]], "y", np.array("y")])
def test_what_is_no_array_of_numbers_is_a_symptom_too(nothing: Any) -> None:
    assert said(Y, nothing).startswith("y is no array of numbers on rank 1: it is a ")


def test_growth_compares_2_ranks_with_1_and_4() -> None:
    def on(t: int, got: np.ndarray) -> Seen:
        return Seen(t, [Value("y", [got] * t, [Y] * t, True)], {})

    bias = np.array([1.0, -2, 3])
    grows = Examination([on(1, Y), on(2, Y + bias), on(4, Y + 3 * bias)])
    assert list(growth(grows)) == ["what y is off by on 4 ranks is 3 times what it is off by on 2"]
    alike = Examination([on(t, Y + bias) for t in (1, 2, 4)])
    assert "by the same numbers on 1 rank as on 2" in next(growth(alike))
    assert list(growth(Examination([on(1, Y), on(2, Y + bias), on(4, Y - bias[::-1])]))) == []


def test_every_number_of_ranks_is_given_the_same_problem() -> None:
    patient = by_name("served_mlp")
    runs = examine(patient, patient.mended).runs
    values = [seen.value("y") for seen in runs]
    assert [seen.t for seen in runs] == [1, 2, 4]
    for value in values:
        assert value is not None
        np.testing.assert_array_equal(value.must[0], values[0].must[0])  # type: ignore[union-attr]


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Casebook.start(tmp_path / "bugs")
    return tmp_path / "bugs"


def bugs(folder: Path, *words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["lab", "bugs", *words, "--dir", str(folder)], env={"COLUMNS": "200"})
    return ran.exit_code, ran.output


@each
def test_running_and_checking_a_sick_file_does_not_tell_what_is_wrong(patient: Patient, folder: Path) -> None:
    exercise, case = patient.exercise, patient.case(2)
    deal = exercise.deal(case, Draw(patient.case(4)))
    _, output = bugs(folder, "run", str(exercise.number))
    assert "t = 4  ✗" in output
    told = [one.why for name in deal.mistakes for one in deal.mistakes[name] if one.kind == patient.kind]
    assert not [why for why in told if why in output]
    assert patient.in_zoo().title not in output
    assert exercise.hints[0] not in output
    assert ("a test on one rank finds nothing" in output) == patient.in_zoo().hides_at_one_rank


def test_a_check_withholds_the_diagnosis_of_the_planted_bug_and_gives_that_of_another(folder: Path) -> None:
    path = folder / "02_first_half.py"
    code, output = bugs(folder, "check", "2")
    assert (code, "the sum over ranks is missing" in output) == (1, False)
    assert re.search(r"rank \d's dx is \d+ too (small|large)", output)
    assert "tpsim lab bugs hint 2" in output
    path.write_text(path.read_text(encoding="utf-8").replace("dz @ a.T", "dz @ a"), encoding="utf-8")
    code, output = bugs(folder, "check", "2")
    assert code == 1
    assert "print the shapes" in output


def test_a_mended_file_passes_and_the_story_is_told_with_its_thread(folder: Path) -> None:
    patient = by_name("served_mlp")
    shutil.copyfile(patient.mended, folder / patient.exercise.file_name)
    code, output = bugs(folder, "check", "1")
    assert code == 0
    assert patient.in_zoo().goes_wrong in output
    assert "https://github.com/huggingface/text-generation-inference/issues/1036" in output
    assert "no symptom on these numbers" in bugs(folder, "run", "1")[1]
    _, listed = bugs(folder, "list")
    assert f"1 of {len(PATIENTS)} mended" in listed
    assert "huggingface/text-generation-inference#1036" in listed
    assert "pytorch/torchtitan" not in listed


def test_run_shows_the_traces_collectives_with_shapes_and_bytes(folder: Path) -> None:
    _, output = bugs(folder, "run", "9")
    assert re.search(r"2 +token_loss +all +all_gather +\(3, 4\) +96 *\n", output)
    assert len(re.findall(r"4 +token_loss +all +all_reduce +\(3,\)", output)) == 3


def test_run_shows_what_the_file_prints(folder: Path) -> None:
    path = folder / "10_dropped_columns.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(
        source.replace("    rows, n = x.shape\n", "    rows, n = x.shape\n    print('n', n)\n"),
        encoding="utf-8",
    )
    assert "it printed, on 2 ranks:\n    n 4\n" in bugs(folder, "run", "10")[1]


def test_a_file_that_cannot_be_loaded_is_said_with_its_line(folder: Path) -> None:
    (folder / "01_served_mlp.py").write_text("def mlp(:\n", encoding="utf-8")
    assert "01_served_mlp.py:1: def mlp(:" in bugs(folder, "run", "1")[1]


def test_hints_come_one_at_a_time_and_reveal_shows_the_line_and_the_mend(folder: Path) -> None:
    patient = by_name("shared_bias")
    assert bugs(folder, "hint", "5")[1] == f"1/3  {patient.exercise.hints[0]}\n"
    assert "2/3" in bugs(folder, "hint", "5")[1]
    _, output = bugs(folder, "reveal", "5")
    assert "05_shared_bias.py:42: db = dshare / group.size" in output
    assert "+    db = dy.sum(axis=0)" in output
    assert patient.links[0] in output


def test_reset_brings_the_bug_back_and_keeps_the_work(folder: Path) -> None:
    path = folder / "01_served_mlp.py"
    path.write_text("# mine\n", encoding="utf-8")
    assert "your version is in" in bugs(folder, "reset", "1")[1]
    assert path.read_bytes() == by_name("served_mlp").sick.read_bytes()
    assert (folder / ".backup" / path.name).read_text(encoding="utf-8") == "# mine\n"


def test_patients_and_exercises_do_not_mix_in_one_folder(folder: Path) -> None:
    book, _ = Workbook.start(folder)
    assert len(Casebook.open(folder).exercises) == len(PATIENTS)
    assert Workbook.open(folder).exercises.keys() == book.exercises.keys()
    assert not {Casebook.open(folder).path(one.exercise) for one in PATIENTS} & {
        book.path(one) for one in book.exercises.values()
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "99"], "exercise 99: there is none; pick one of 1, 2"),
        (["check", "3"], "03_fused_residual.py is not in"),
        (["run", "3"], "bring it back with `tpsim lab bugs reset 3`"),
    ],
)
def test_what_cannot_be_is_said_in_three_parts(words: list[str], says: str, folder: Path) -> None:
    (folder / "03_fused_residual.py").unlink()
    ran = CliRunner().invoke(app, ["lab", "bugs", *words, "--dir", str(folder)])
    assert says in str(ran.exception)


def test_a_folder_without_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make some with `tpsim lab bugs start DIR`"):
        Casebook.open(tmp_path)
