"""Every chapter runs, keeps to the form of `tutorials/README.md`, and has its pictures up to date."""

import ast
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from tpsim.plots.picture import digest, digest_of, save
from tpsim.plots.ring import ring
from tpsim.plots.sharding import Matrix, evenly, sharding
from tpsim.studies import tutorials
from tpsim.studies.tutorials import Cell

CHAPTERS = tutorials.chapters()
FIGURES = tutorials.folder().parent / "figures"
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def cells(chapter: Path) -> list[Cell]:
    return list(tutorials.cells(chapter.read_text(encoding="utf-8")))


def figures_of(chapter: Path, folder: Path) -> dict[str, str | None]:
    """Return the digests of the pictures that bear a chapter's number."""
    return {path.name: digest_of(path) for path in folder.glob(f"{chapter.stem[:2]}_*.png")}


# --- chapters -----------------------------------------------------------------------------------------------


@each_chapter
def test_a_chapter_runs_as_a_script_and_its_committed_pictures_are_what_it_draws(
    chapter: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", chapter],
        cwd=tmp_path,
        env={**os.environ, "TPSIM_FIGURES": str(tmp_path / "figures")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    drawn = figures_of(chapter, tmp_path / "figures")
    assert drawn, "no picture NN_….png"
    assert list(tmp_path.iterdir()) == [tmp_path / "figures"]
    assert len(list((tmp_path / "figures").iterdir())) == len(drawn)
    remedy = f"run python tutorials/{chapter.name} in the top folder; delete what it no longer draws"
    assert figures_of(chapter, FIGURES) == drawn, remedy


@each_chapter
def test_a_chapter_begins_with_its_number_its_length_and_what_one_needs_to_know(chapter: Path) -> None:
    first = cells(chapter)[0]
    number = int(chapter.stem[:2])
    assert first.kind == "markdown"
    assert re.match(rf"# {number} · \S.*\n\n\*(1\d|20) minutes\. You need: .*\.\*\n", first.text, re.DOTALL)


@each_chapter
def test_a_chapter_goes_from_by_hand_to_tpsim_to_a_question_that_was_asked_for_real(chapter: Path) -> None:
    texts = [cell.text for cell in cells(chapter) if cell.kind == "markdown"]
    headings = re.findall(r"^## (.*)$", "\n".join(texts), re.MULTILINE)
    places = [
        next((i for i, heading in enumerate(headings) if heading.startswith(beginning)), -1)
        for beginning in ("By hand", "The same in tpsim", "Asked for real: ", "To take along")
    ]
    assert -1 not in places, headings
    assert places == sorted(places), headings
    assert places[-1] == len(headings) - 1
    asked = "\n".join(texts).split("## Asked for real: ")[1]
    assert re.search(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", asked)
    assert "$" in "".join(texts)


@each_chapter
def test_two_or_three_questions_are_each_run_and_then_answered(chapter: Path) -> None:
    found = cells(chapter)
    asked = [i for i, cell in enumerate(found) if cell.kind == "markdown" and "**Predict " in cell.text]
    assert 2 <= len(asked) <= 3
    for number, place in enumerate(asked, start=1):
        question, run, answer = found[place : place + 3]
        last_paragraph = question.text.split("\n\n")[-1]
        assert last_paragraph.startswith(f"**Predict {number}.** ")
        assert "?" in last_paragraph
        assert run.kind == "code"
        assert "assert" in run.text
        assert answer.text.startswith(f"**Answer {number}.** ")


@each_chapter
def test_code_cells_are_short_and_one_holds_the_layer_equal_to_the_work_by_hand(chapter: Path) -> None:
    code = [cell for cell in cells(chapter) if cell.kind == "code"]
    for cell in code:
        ast.parse(cell.text)
        assert len(cell.text.splitlines()) <= 45, f"the cell of line {cell.line}"
    text = "\n".join(cell.text for cell in code)
    assert "assert_allclose" in text or "assert_array_equal" in text
    for name in re.findall(r'^save\(.*"(.*)"\)$', text, re.MULTILINE):
        assert name.startswith(chapter.stem[:3])


def test_chapters_are_numbered_without_gaps() -> None:
    assert [int(path.stem[:2]) for path in CHAPTERS] == list(range(1, len(CHAPTERS) + 1))


@each_chapter
def test_links_to_other_files_lead_somewhere(chapter: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", chapter.read_text(encoding="utf-8")):
        assert (chapter.parent / target).exists(), target


def test_the_readme_lists_every_chapter() -> None:
    readme = (tutorials.folder() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \| .+ \|$", readme, re.MULTILINE)
    assert rows == [(*tutorials.title(path).split(" · "), path.name) for path in CHAPTERS]


def test_the_glossary_names_what_is_there() -> None:
    lines = (tutorials.folder() / "GLOSSARY.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| **")]
    assert len(rows) > 50
    homes = [
        importlib.import_module(f"tpsim{name}")
        for name in ("", ".comm", ".nn", ".train", ".infer", ".trace", ".cost.hardware", ".functional")
    ]
    for row in rows:
        assert len(row) == 3, row
        for name in re.findall(r"`([A-Z]\w+|tpsim\.\w+)", row[2]):
            last = name.removeprefix("tpsim.")
            there = any(hasattr(home, last) for home in homes) or importlib.util.find_spec(f"tpsim.{last}")
            assert there, name


# --- notebooks and copies -----------------------------------------------------------------------------------


@each_chapter
def test_a_notebook_holds_the_same_cells_and_nothing_run(chapter: Path) -> None:
    made = json.loads(json.dumps(tutorials.notebook(chapter)))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    for cell, source in zip(made["cells"], cells(chapter), strict=True):
        assert (cell["cell_type"], "".join(cell["source"])) == (source.kind, source.text)
        assert ("outputs" in cell) == (source.kind == "code")


def test_cells_are_read_as_jupytext_reads_them() -> None:
    source = "# %% [markdown]\n# # Title\n#\n#     indented\n\n# %%\nx = 1  # %% not a cell\n\n\n# %%\n"
    assert list(tutorials.cells(source)) == [
        Cell("markdown", "# Title\n\n    indented", 1),
        Cell("code", "x = 1  # %% not a cell", 6),
        Cell("code", "", 10),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import numpy\n# %%\n", "stands before the first cell"),
        ("# %% [markdown]\n# text\nx = 1\n", "line 3: 'x = 1' is code in a cell of text"),
    ],
)
def test_a_file_that_is_not_cells_is_refused(source: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(tutorials.cells(source))


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tpsim", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_lists_writes_notebooks_and_copies(tmp_path: Path) -> None:
    listed = run_command("tutorials")
    assert listed.returncode == 0, listed.stderr
    written = run_command("tutorials", "--notebook", str(tmp_path / "nb"), "--copy", str(tmp_path / "mine"))
    assert written.returncode == 0, written.stderr
    for chapter in CHAPTERS:
        assert tutorials.title(chapter) in listed.stdout
        assert (tmp_path / "nb" / f"{chapter.stem}.ipynb").exists()
        assert (tmp_path / "mine" / chapter.name).read_bytes() == chapter.read_bytes()
    again = run_command("tutorials", "--copy", str(tmp_path / "mine"))
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "is there already" in again.stderr


# --- pictures -----------------------------------------------------------------------------------------------


def line_figure(values: list[float], title: str = "") -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.plot(values)
    axes.set_title(title, loc="left")
    return figure


def test_a_digest_tells_data_and_words_apart_and_forgives_rounding() -> None:
    shown = digest(line_figure([1.0, 2.0]))
    assert digest(line_figure([1.0, 2.0 + 1e-12])) == shown
    assert len({shown, digest(line_figure([1.0, 2.001])), digest(line_figure([1.0, 2.0], "a"))}) == 3


def test_a_digest_sees_who_owns_a_cut_matrix_and_its_numbers() -> None:
    values = np.arange(8.0).reshape(2, 4)
    variants = [
        Matrix("A", (2, 4), evenly(4, 2), values=values),
        Matrix("A", (2, 4), evenly(4, 4), values=values),
        Matrix("A", (2, 4), evenly(2, 2), axis=0, values=values),
        Matrix("A", (2, 4), evenly(4, 2), values=values + 1),
        Matrix("A", (2, 4), values=values),
    ]
    assert len({digest(sharding({"": [matrix]})) for matrix in variants}) == len(variants)


def test_the_ring_has_a_slot_for_each_part_of_each_sum_and_an_arrow_for_each_message() -> None:
    states = [[[{0}, {0}], [{1}, {1}]], [[{0}, {0, 1}], [{0, 1}, {1}]]]
    before, after = ring(states, [[0, 1]], ["start", "added"]).axes[:2]
    boxes = 4  # one a chunk
    assert [len(before.patches) - boxes, len(after.patches) - boxes] == [4, 6]
    arrows = [sum(isinstance(text, Annotation) for text in axes.texts) for axes in (before, after)]
    assert arrows == [3, 0]  # the last rank's message leaves at the bottom and comes in at the top


def test_a_picture_is_rewritten_only_if_it_shows_something_else(tmp_path: Path) -> None:
    path = save(line_figure([1.0, 2.0]), "p", tmp_path).path
    elsewhere = path.read_bytes().replace(b"Matplotlib version", b"Matplotlib versioN")  # another's pixels
    path.write_bytes(_with_valid_checksums(elsewhere))
    kept = path.read_bytes()
    save(line_figure([1.0, 2.0]), "p", tmp_path)
    assert path.read_bytes() == kept
    save(line_figure([1.0, 3.0]), "p", tmp_path)
    assert path.read_bytes() != kept
    assert digest_of(path) == digest(line_figure([1.0, 3.0]))


def _with_valid_checksums(png: bytes) -> bytes:
    """Return a PNG with the checksum of each chunk computed anew."""
    out, place = png[:8], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        body = png[place + 4 : place + 8 + length]
        out += png[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out
