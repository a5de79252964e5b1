"""What `tpsim lab bugs` prints: the patients, symptoms with the trace's collectives, and stories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from textwrap import wrap

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table

from tpsim.cli.lab_tables import show
from tpsim.lab.bughunt import Casebook, Examination, Patient, growth, healthy, patients, symptoms
from tpsim.lab.bughunt.examination import Seen, Value
from tpsim.lab.checking import Result, Verdict
from tpsim.lab.checking.values import shown
from tpsim.trace import CollectiveEvent

PRINTED = 20
"""Lines that are shown of what a file printed."""


def ward(book: Casebook) -> Table:
    """Return all patients, and how they are."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "N", "patient", "level", "chapter", "hints", "the real bug"):
        table.add_column(column, justify="right" if column in ("N", "chapter") else "left")
    for number, patient in patients().items():
        one = patient.exercise
        standing = book.standing(one)
        table.add_row(
            "[green]✓[/]" if standing.passed else "[yellow]…[/]" if book.begun(one) else "·",
            str(number),
            one.title,
            "★" * one.level,
            str(one.chapter),
            f"{standing.hints} seen" if standing.hints else "",
            ", ".join(patient.threads) if standing.passed else "",
        )
    mended = sum(book.standing(one).passed for one in book.exercises.values())
    table.caption = f"{mended} of {len(book.exercises)} mended"
    table.caption_justify = "left"
    return table


def show_examination(patient: Patient, examination: Examination, console: Console) -> None:
    """Print the symptoms on each number of ranks, the worst array, and what was communicated."""
    number = patient.exercise.number
    sizes = ", ".join(f"{name} {value}" for name, value in patient.shown.items())
    _line(console, f"{number} · {patient.exercise.title}", "bold")
    _line(console, f"the same numbers on each number of ranks: {sizes}\n")
    for seen in examination.runs:
        label = f"  t = {seen.t}  "
        for mark, texts, style in (("✗", list(symptoms(seen)), "red"), ("✓", [healthy(seen)], "green")):
            for text in filter(None, texts):
                _hanging(console, f"{label}{mark} ", text, style)
                label, mark = " " * len(label), " "
    for text in growth(examination):
        _line(console, f"  {text}")
    if examination.runs[0].right and not examination.right:
        _line(console, "  a test on one rank finds nothing")
    worst = examination.worst()
    if worst is not None:
        _line(console, "")
        for text in _beside(worst):
            _line(console, f"  {text}")
    ended = [seen for seen in examination.runs if seen.t > 1 and seen.stop is None]
    if ended:
        _line(console, "\n  what was communicated")
        console.print(Padding(_collectives(ended), (0, 0, 0, 2)))
    printed = next((seen.printed for seen in examination.runs[1:] if seen.printed), "")
    if printed:
        _line(console, "\n  it printed, on 2 ranks:")
        for text in printed.splitlines()[:PRINTED]:
            _line(console, f"    {text}")
    if examination.right:
        _line(console, f"\nno symptom on these numbers; on others: tpsim lab bugs check {number}", "dim")
    else:
        _line(console, f"\nfind the line and mend it, then: tpsim lab bugs check {number}", "dim")
        _line(console, f"stuck? tpsim lab bugs hint {number}", "dim")


def show_check(patient: Patient, result: Result, console: Console) -> None:
    """Print the outcome of a check; the story, if all holds."""
    if not result.passed:
        show(_without_diagnosis(patient, result), console, command=Casebook.COMMAND)
        return
    title = f"{patient.exercise.number} · {patient.exercise.title}"
    _line(console, f"✓ {title}: mended, {result.cases} cases in {result.seconds:.1f} s", "green")
    _story(patient, console)
    _line(console, f"\ncompare: tpsim lab bugs reveal {patient.exercise.number}", "dim")


def show_mend(patient: Patient, console: Console) -> None:
    """Print the wrong line, the diff and the story."""
    name = patient.exercise.file_name
    for wrong in patient.lines():
        _line(console, f"{name}:{wrong}", "bold red")
    _line(console, "")
    console.print(Syntax("\n".join(patient.diff()), "diff", theme="ansi_dark", word_wrap=True))
    _story(patient, console)


def _story(patient: Patient, console: Console) -> None:
    bug = patient.in_zoo()
    _line(console, f"\nThe bug: {bug.title}.", "bold")
    console.print(f"What it does: {bug.goes_wrong}", highlight=False, markup=False)
    _line(console, "\nWhere it was seen", "bold")
    console.print(patient.story, highlight=False, markup=False)
    for link in patient.links:
        _line(console, f"  {link}", "cyan")


def _without_diagnosis(patient: Patient, result: Result) -> Result:
    """Leave out what a finding means, where it is the planted bug: that is for the student to find."""

    def quiet(verdict: Verdict) -> Verdict:
        finding = verdict.finding
        if finding is None or finding.kind != patient.kind:
            return verdict
        return replace(verdict, finding=replace(finding, why=""))

    return replace(result, verdicts=tuple(map(quiet, result.verdicts)))


def _beside(value: Value) -> Iterator[str]:
    """Yield what each rank has, beside what it must have."""
    t = len(value.got)
    yield f"{value.name} on {t} rank{'s' if t > 1 else ''}"
    for rank in range(t):
        yield f"  rank {rank}  has   {shown(value.got[rank])}"
        if rank not in value.wrong:
            yield "          which is right"
        else:
            yield f"          must  {shown(value.must[rank])}"


def _collectives(runs: list[Seen]) -> Table:
    """Return the trace's collectives: a line for each call that ranks made alike."""
    table = Table(box=None, pad_edge=False)
    for column in ("t", "function", "ranks", "collective", "of shape", "bytes sent by each"):
        table.add_column(column, justify="right" if column in ("t", "bytes sent by each") else "left")
    for seen in runs:
        for function, ranks in seen.events.items():
            alike: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
            for rank, events in enumerate(ranks):
                alike.setdefault(tuple((event.operation, event.shape) for event in events), []).append(rank)
            for calls, who in alike.items():
                whose = "all" if len(who) == seen.t else ", ".join(map(str, who))
                for place, (operation, shape) in enumerate(calls):
                    sent = _sent([ranks[rank][place] for rank in who])
                    table.add_row(str(seen.t), function, whose, operation, str(shape), sent)
                if not calls:
                    table.add_row(str(seen.t), function, whose, "none", "", "0")
    return table


def _sent(events: list[CollectiveEvent]) -> str:
    sent = sorted({event.bytes_sent for event in events})
    return str(sent[0]) if len(sent) == 1 else f"{sent[0]} to {sent[-1]}"


def _hanging(console: Console, label: str, text: str, style: str) -> None:
    """Print text beside a label, and what does not fit below itself."""
    room = max(console.width - len(label), 40)
    for line in wrap(text, room):
        _line(console, label + line, style)
        label = " " * len(label)


def _line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: nothing in it is markup."""
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)
