"""How an estimate looks in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table

from tpsim.studies.block import BlockCosts
from tpsim.studies.costs import Costs
from tpsim.studies.estimate import Answer
from tpsim.studies.verdict import gigabytes

HOST = 0.02  # of a step: from here on the host's share has a column


def render(answer: Answer) -> Iterator[RenderableType]:
    """Yield what is printed: what was asked, memory, time, and the verdict."""
    yield _headline(answer)
    yield ""
    yield "[italic]memory of a rank, GB[/]"
    yield _memory(answer)
    yield ""
    yield "[italic]a step: collectives and bytes of a rank, time, and waiting for messages[/]"
    yield _time(answer)
    yield ""
    for ranks, why in answer.refused.items():
        yield f"[yellow]{ranks} ranks[/]: {why}"
    yield answer.verdict


def layer_table(rows: Sequence[BlockCosts]) -> Table:
    """Return one block's times, with its collectives and without."""
    time = _unit([row.forward_backward / 10 for row in rows], {"ms": 1e-3, "µs": 1e-6})
    columns: dict[str, Callable[[BlockCosts], str]] = {
        "t\n": lambda row: str(row.ranks),
        f"forward\n{time.name}": lambda row: _digits(row.forward / time.size),
        f"with backward\n{time.name}": lambda row: _digits(row.forward_backward / time.size),
        "exposed\n%": lambda row: _percent(row.exposed / row.forward_backward),
        "host\n%": lambda row: _percent(row.host_bound / row.forward_backward),
        f"its share alone\n{time.name}": lambda row: _digits(row.shard_forward / time.size),
        f"with backward\n{time.name} ": lambda row: _digits(row.shard_forward_backward / time.size),
    }
    table = _table(*columns)
    for row in rows:
        table.add_row(*(show(row) for show in columns.values()))
    return table


def _headline(answer: Answer) -> str:
    question, plan = answer.question, answer.rows[0].plan
    batch = answer.rows[0].plan.batch if question.strategy == "tp" else question.batch or max(question.ranks)
    sequences = f"{batch} sequence{'s' * (batch > 1)} of {plan.seq:,}"
    what = {"tp": "tensor parallelism", "dp": "data parallelism", "fsdp": "FSDP"}[question.strategy]
    options = [what] + ["sequence parallelism"] * (question.sequence_parallel and not question.sweep)
    if question.recompute != "none" and not question.sweep:
        options.append(f"{question.recompute} recompute")
    if question.overlap != "none":
        options.append(f"overlap {question.overlap}")
    times = f"{question.microbatches} × " if question.microbatches > 1 else ""
    return (
        f"[bold]{plan.config.name}[/], {plan.config.parameter_count() / 1e9:,.3g} B parameters, on "
        f"{answer.hardware.name}: {', '.join(options)}; {times}{sequences}, {plan.dtype}"
    )


def _memory(answer: Answer) -> Table:
    table = _table(
        _ranks_title(answer),
        "weights",
        "gradients",
        "optimizer",
        "activations",
        "other",
        "total",
    )
    table.add_column(f"of {gigabytes(answer.hardware.memory_bytes)}", justify="left")
    for row in answer.rows:
        kept = row.memory
        other = kept.statistics + kept.recomputed + kept.working + kept.gathered
        sizes = (kept.weights, kept.gradients, kept.optimizer, kept.activations, other, kept.total)
        fits = "[green]fits[/]" if row.fits else "[red]too much[/]"
        table.add_row(_ranks(row, answer), *map(gigabytes, sizes), fits)
    return table


def _time(answer: Answer) -> Table:
    rows, sweep = answer.rows, answer.question.sweep
    work = _unit([row.model_flops for row in rows], {"PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9})
    time = _unit([row.step / 10 for row in rows], {"s": 1.0, "ms": 1e-3})
    rate = _unit([row.tokens_per_second / 1e3 for row in rows], {"k/s": 1e3, "a second": 1.0})
    by_host = any(row.host_bound > HOST * row.step for row in rows)
    columns: dict[str, Callable[[Costs], str]] = {
        f"{_ranks_title(answer)}\n": lambda row: _ranks(row, answer),
        f"work\n{work.name}": lambda row: _digits(row.model_flops / work.size),
        "calls\n": lambda row: f"{row.collectives:,}",
        "sent\nGB": lambda row: gigabytes(row.sent_bytes),
        f"forward\n{time.name}": lambda row: _digits(row.forward / time.size),
        f"backward\n{time.name}": lambda row: _digits(row.backward / time.size),
        f"step\n{time.name}": lambda row: _digits(row.step / time.size),
        "exposed\n%": lambda row: _percent(row.exposed / row.step),
        "host\n%": lambda row: _percent(row.host_bound / row.step),
        "MFU\n%": lambda row: _percent(row.mfu),
        f"tokens\n{rate.name}": lambda row: _digits(row.tokens_per_second / rate.size),
    }
    if not by_host:
        del columns["host\n%"]
    if sweep:
        del columns[f"work\n{work.name}"]
    table = _table(*columns)
    table.collapse_padding = len(columns) > 10
    for row in rows:
        table.add_row(*(show(row) for show in columns.values()))
    return table


class _Unit(NamedTuple):
    name: str
    size: float


def _unit(values: Iterable[float], units: Mapping[str, float]) -> _Unit:
    """Return the largest unit that the largest value has one of, or the smallest."""
    largest = max(values)
    return next(
        (_Unit(*unit) for unit in units.items() if largest >= unit[1]), _Unit(*list(units.items())[-1])
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _ranks_title(answer: Answer) -> str:
    rows = answer.rows
    replicas = any(row.plan.dp > 1 for row in rows)
    if not replicas:
        return "t"
    return "t × dp" if any(row.plan.tp > 1 for row in rows) else "ranks"


def _ranks(row: Costs, answer: Answer) -> str:
    plan = row.plan
    ranks = f"{plan.tp} × {plan.dp}" if _ranks_title(answer) == "t × dp" else str(row.ranks)
    if answer.question.sweep:
        ranks += f" {'SP' if plan.sequence_parallel else '– '} {plan.recompute.replace('selective', 'sel.')}"
    return ranks


def _digits(value: float) -> str:
    digits = 0 if value >= 99.5 else 1 if value >= 9.95 else 2
    return f"{value:,.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
