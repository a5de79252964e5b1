"""`tpsim load`: how long requests wait that come at random."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tpsim.cli.usage import numbers, usage_errors

if TYPE_CHECKING:
    from tpsim.studies.load import LoadResult


def load(
    model: Annotated[str, typer.Argument(help="A name (llama3-8b), a config.json, or a JSON of dimensions.")],
    rate: Annotated[str, typer.Option(help="Requests a second, to compare.")] = "1,2,4,8,16",
    tp: Annotated[int, typer.Option(help="Ranks that share each layer.")] = 1,
    rows: Annotated[int, typer.Option(help="Requests that run at a time, at most.")] = 64,
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt, on average.")] = 512,
    new: Annotated[int, typer.Option(help="New tokens, on average.")] = 128,
    chunk: Annotated[int, typer.Option(help="Tokens of a prompt that a step takes; 0: all.")] = 512,
    count: Annotated[int, typer.Option(help="Requests in all.")] = 200,
    seed: Annotated[int, typer.Option(help="Of arrivals and lengths.")] = 0,
    hardware: Annotated[str, typer.Option(help="A profile's name, or a file of tpsim calibrate.")] = "h200",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: seconds.")] = False,
) -> None:
    """Serve Poisson arrivals in simulated time, with continuous batching.

    One row a rate: the time to the first token and between tokens, for the median and the unlucky.
    """
    with usage_errors():
        from tpsim.cost.hardware import load as profile
        from tpsim.models import find
        from tpsim.studies.load import Load, run_load
        from tpsim.studies.servers import PricedServer, Prices

        config = find(model)
        prices, results = Prices(config, tp, profile(hardware)), []
        for each in numbers(rate):
            asked = Load(rate=each, count=count, prompt=prompt, new=new, seed=seed, vocab=config.vocab)
            server = PricedServer(prices, rows=rows, length=asked.longest, chunk=chunk or None)
            results.append(run_load(asked, server))
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return
    _show(f"[bold]{model}[/], t = {tp} on {hardware}: {rows} requests at a time", results)


def _show(headline: str, results: list[LoadResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    columns = ("rate, /s", "busy %", "batch", "tokens/s", *("first, ms 50 %", "90 %", "99 %"))
    for column in (*columns, *("each, ms 50 %", "90 %", "99 %")):
        table.add_column(column, justify="right")
    for result in results:
        waits = [*result.to_first().values(), *result.per_token().values()]
        table.add_row(
            f"{result.load.rate:g}",
            f"{100 * result.busy / result.seconds:.0f}",
            f"{result.mean_batch:.1f}",
            f"{result.tokens_per_second:,.0f}",
            *(f"{1e3 * wait:,.0f}" if wait > 0.1 else f"{1e3 * wait:.1f}" for wait in waits),
        )
    console = Console(highlight=False)
    console.print(headline)
    console.print(table)
