"""A summary in Markdown, between two marker comments of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpsim.studies.bench import wording
from tpsim.studies.bench.result import Row
from tpsim.studies.bench.sizes import BLOCKS
from tpsim.studies.bench.study import Bench

BEGIN, END = "<!-- tpsim bench: begin -->", "<!-- tpsim bench: end -->"


def check(path: Path) -> None:
    """Refuse a file that has no place for a summary, before a long run and not after it.

    Raises
    ------
    ValueError
        What was asked, why it can't be, what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--write {path}: it can't be read ({error}); pass a Markdown file that is there"
        ) from None
    replaced(text, "", str(path))


def write(path: Path, found: Bench) -> None:
    """Put the summary of a run into a file, in place of the one that is there."""
    text = path.read_text(encoding="utf-8")
    path.write_text(replaced(text, summary(found), str(path)), encoding="utf-8")


def replaced(text: str, between: str, name: str = "the file") -> str:
    """Return a text with something else between the markers.

    Raises
    ------
    ValueError
        Unless each marker is there once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"--write {name}: it has not one place for the summary; put the lines {BEGIN} and {END} where it "
            "shall stand, each once"
        )
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{between.strip()}\n{END}{after}"


def summary(found: Bench) -> str:
    """Return a run's ratios, times, machine and date as Markdown."""
    parts = [_targets(found), _blocks(found), _steps(found), _place(found)]
    return "\n\n".join(part for part in parts if part)


def _targets(found: Bench) -> str:
    measured = [finding for finding in found.findings if finding.measured is not None]
    rows = [
        (
            finding.target.what,
            wording.three(finding.measured or 0.0),
            wording.limit(finding.target),
            wording.sign(finding),
        )
        for finding in measured
    ]
    return _table(("what must hold", "measured", "target", ""), rows) if rows else ""


def _blocks(found: Bench) -> str:
    rows = [row for row in found.rows if row.section == "block"]
    if not rows:
        return ""
    sizes = "; ".join(f"{name}: {BLOCKS[name]}" for name in _whats(rows))
    return f"{_by_who('a block, forward and backward', rows)}\n\nfloat32; {sizes}."


def _steps(found: Bench) -> str:
    rows = [row for row in found.rows if row.section == "train"]
    if not rows:
        return ""
    notes = [note for section in found.sections if section.name == "train" for note in section.notes]
    return "\n\n".join([_by_who("a training step", rows), *notes])


def _by_who(title: str, rows: Sequence[Row]) -> str:
    """Return a table of a line for each contender and a column for each thing that it ran."""
    of = {(row.what, row.who): row for row in rows}
    columns = _whats(rows)
    lines = [
        [who, *(_cell(of[what, who]) if (what, who) in of else "" for what in columns)]
        for who in dict.fromkeys(row.who for row in rows)
    ]
    return _table([title, *(f"{what}, ms" for what in columns)], lines)


def _whats(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.what for row in rows))


def _cell(row: Row) -> str:
    """Return milliseconds and the share of the GEMM peak."""
    return f"{wording.milliseconds(row.value)} ({wording.percent(row.share)})"


def _place(found: Bench) -> str:
    return " ".join(
        [
            "Medians, in brackets the share of the GEMM peak, by `tpsim bench`:",
            wording.machine(found),
            wording.quiet(found),
        ]
    ).strip()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
