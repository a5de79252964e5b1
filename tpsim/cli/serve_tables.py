"""How `tpsim estimate --serve` answers: tables in a terminal of 80 columns, JSON, pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from tpsim.cli.drawing import draw
from tpsim.studies.serve import ServeAnswer, ServeQuestion, answer_serve
from tpsim.studies.verdict import gigabytes

PARTS = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "flops": "arithmetic",
    "all_reduce": "all-reduce",
    "launches": "launches",
}


def show(answer: ServeAnswer, *, as_json: bool, plot: Path | None) -> None:
    """Print an answer, and draw it."""
    if as_json:
        print(json.dumps(answer.to_dict(), indent=2))
    else:
        console = Console(highlight=False)
        for part in render(answer):
            console.print(part)
    if plot is not None:
        from tpsim.plots.serving import latency_throughput, token_time

        rows, title = answer.to_dict()["rows"], answer.question.model
        figures = {"token_time": token_time(rows, title)}
        if any(row["curve"] for row in rows):
            figures["latency_throughput"] = latency_throughput(rows, title)
        draw(figures, plot, quiet=as_json)


def ask(**words: Any) -> ServeAnswer:
    """Answer a question in the words of `ServeQuestion`; those that are None are left out."""
    return answer_serve(ServeQuestion(**{name: word for name, word in words.items() if word is not None}))


def render(answer: ServeAnswer) -> Iterator[RenderableType]:
    """Yield what is printed: what was asked, a token's time, memory and throughput, and the verdict."""
    decode = answer.rows[0].decode
    yield (
        f"[bold]{answer.question.model}[/] on {answer.hardware.name}: {_sequences(decode.batch)} with a "
        f"context of {decode.context:,}, {answer.question.dtype}"
    )
    yield ""
    yield _token(answer)
    yield ""
    yield _throughput(answer)
    yield ""
    if any(row.all_reduce for row in answer.rows):
        yield _all_reduces(answer)
        yield ""
    for ranks, why in answer.refused.items():
        yield f"[yellow]{ranks} ranks[/]: {why}"
    yield answer.verdict


def _token(answer: ServeAnswer) -> Table:
    table = _table("where the time of a token goes, ms", "t", "first", "each", *PARTS.values())
    table.add_column("bound by", justify="left")
    for row in answer.rows:
        times = [row.prefill, row.decode.step, *(row.decode.parts[part] for part in PARTS)]
        table.add_row(str(row.decode.tp), *map(_milliseconds, times), PARTS[row.decode.bound])
    return table


def _throughput(answer: ServeAnswer) -> Table:
    table = _table(
        f"memory of a rank, GB of {gigabytes(answer.hardware.memory_bytes)}, and tokens a second",
        "t",
        "weights",
        "KV cache",
        "total",
        "",
        "tokens/s",
        "largest batch",
        "tokens/s a device",
    )
    for row in answer.rows:
        decode, memory = row.decode, row.decode.memory
        best = max((point.tokens_per_second_per_device for point in row.curve), default=None)
        table.add_row(
            str(decode.tp),
            *(gigabytes(size) for size in (memory.weights, memory.kv_cache, memory.total)),
            "[green]fits[/]" if decode.fits else "[red]too much[/]",
            f"{decode.tokens_per_second:,.0f}",
            f"{row.largest_batch:,}",
            "–" if best is None else f"{best:,.0f}",
        )
    return table


def _all_reduces(answer: ServeAnswer) -> Table:
    table = _table(
        "an all-reduce of the step, µs by algorithm, and up to which size another is the quickest",
        "t",
        "message",
        "library",
        "one-shot",
        "two-shot",
        "one-shot until",
        "two-shot until",
    )
    for row in answer.rows:
        if row.all_reduce:
            ways = row.all_reduce
            table.add_row(
                str(row.decode.tp),
                _size(ways.nbytes),
                *(f"{1e6 * seconds:.1f}" for seconds in ways.seconds.values()),
                _size(ways.one_shot_until),
                _size(ways.two_shot_until),
            )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _milliseconds(seconds: float) -> str:
    digits = 0 if seconds >= 0.0995 else 1 if seconds >= 0.00995 else 2
    return f"{1e3 * seconds:,.{digits}f}"


def _size(nbytes: int | None) -> str:
    if nbytes is None:
        return "–"
    return f"{nbytes / 1024:,.0f} KiB" if nbytes < 2**30 else "any"


def _sequences(count: int) -> str:
    return f"{count} sequence{'s' * (count > 1)}"
