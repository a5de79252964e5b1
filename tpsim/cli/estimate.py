"""`tpsim estimate`: what a model of any size sends, keeps and waits for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tpsim.cli.drawing import check_folder, draw
from tpsim.cli.trace_file import check_trace_file
from tpsim.cli.usage import numbers, usage_errors


def estimate(
    model: Annotated[
        str, typer.Argument(help="A name (llama3-405b), a config.json, or a JSON of dimensions.")
    ],
    tp: Annotated[str, typer.Option(help="Numbers of ranks to compare.")] = "1,2,4,8,16",
    strategy: Annotated[
        str,
        typer.Option(
            help="What those ranks do: tp (share each layer), fsdp (share its storage), dp (hold replicas)."
        ),
    ] = "tp",
    sp: Annotated[bool, typer.Option("--sp/--no-sp", help="Sequence parallelism too.")] = False,
    keep_gathered: Annotated[
        bool, typer.Option("--keep-gathered", help="With --sp: keep gathered inputs for backward.")
    ] = False,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    sweep: Annotated[bool, typer.Option("--sweep", help="Every mixture of SP and recompute.")] = False,
    overlap: Annotated[str, typer.Option(help="none, dw (Megatron-LM's) or decomposed.")] = "none",
    batch: Annotated[int | None, typer.Option(help="Sequences that those ranks work on at a time.")] = None,
    seq: Annotated[int | None, typer.Option(help="Positions a sequence (8192, or the model's most).")] = None,
    microbatches: Annotated[int, typer.Option(help="Batches a step.")] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, or what else the hardware has: float16, float32.")
    ] = None,
    hardware: Annotated[str, typer.Option(help="A profile's name, or a file of tpsim calibrate.")] = "h200",
    nodes: Annotated[
        int | None, typer.Option(help="Fill as many nodes with replicas of those ranks.")
    ] = None,
    stack: Annotated[
        str, typer.Option(help="Software: eager (PyTorch 2), megatron (2022), numpy (a CPU).")
    ] = "eager",
    host: Annotated[str, typer.Option(help="eager (the host issues each kernel) or graph.")] = "eager",
    mix: Annotated[
        str, typer.Option(help="Bytes a parameter: megatron (18), zero (16), bfloat16 (8), float32 (16).")
    ] = "megatron",
    layer: Annotated[
        bool, typer.Option("--layer", help="One block by itself, again and again, as a benchmark runs it.")
    ] = False,
    repeat: Annotated[
        int | None, typer.Option(help="With --layer: how often, on a rested device (without end).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes and seconds.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Folder for pictures of the rows.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Generate text, in CUDA graphs: time per token, KV cache.")
    ] = False,
    context: Annotated[int | None, typer.Option(help="With --serve: positions that a token sees.")] = None,
    window: Annotated[
        int | None, typer.Option(help="With --serve: only the last so many (sliding window).")
    ] = None,
    chunk: Annotated[int | None, typer.Option(help="With --serve: tokens of a prompt at a time.")] = None,
    all_reduce: Annotated[
        str, typer.Option(help="With --serve: library (a ring or tree), one_shot, two_shot or best.")
    ] = "library",
    trace: Annotated[
        Path | None,
        typer.Option(help="Write the chosen row's microbatch as a Chrome trace: blocks 0, 1 and the last."),
    ] = None,
) -> None:
    """Run a model's own layers on shapes alone, and price what they do.

    One row a number of ranks: memory and whether it fits, messages, time, and which to choose.
    """
    with usage_errors():
        check_trace_file(trace)
        check_folder("plot", plot)
        if serve:
            from tpsim.cli import serve_tables

            if trace is not None:
                raise ValueError("--trace is for training steps; leave it out with --serve")
            served = serve_tables.ask(
                model=model,
                ranks=_numbers(tp),
                batch=batch,
                context=context,
                window=window,
                chunk=chunk,
                dtype=dtype,
                hardware=hardware,
                all_reduce=all_reduce,
            )
            serve_tables.show(served, as_json=as_json, plot=plot)
            return
        from tpsim.studies.estimate import Question, answer, answer_layer

        question = Question(
            model=model,
            ranks=_numbers(tp),
            strategy=strategy,
            sequence_parallel=sp,
            keep_gathered=keep_gathered,
            recompute=recompute,
            overlap=overlap,
            sweep=sweep,
            batch=batch,
            seq=seq,
            microbatches=microbatches,
            dtype=dtype,
            hardware=hardware,
            nodes=nodes,
            stack=stack,
            host=host,
            mix=mix,
        )
        if layer:
            _show_layer(answer_layer(question, repeat), as_json=as_json)
            return
        result = answer(question)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _show(result)
    if plot is not None:
        from tpsim.plots import from_rows

        draw(
            from_rows(
                [row.to_dict() for row in result.rows], result.hardware.memory_bytes, result.hardware.node
            ),
            plot,
            quiet=as_json,
        )
    if trace is not None:
        from tpsim.studies.verdict import called

        result.write_trace(trace)
        typer.echo(f"written: {trace}, a microbatch of {called(result.chosen)}", err=as_json)


def _show_layer(rows: list[Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
        return
    from rich.console import Console

    from tpsim.cli.estimate_tables import layer_table

    Console(highlight=False).print(layer_table(rows))


def _numbers(text: str) -> list[int]:
    """Return the numbers of ranks of "1,2,4"."""
    try:
        ranks = numbers(text)
    except ValueError:
        ranks = []
    if not ranks or min(ranks) < 1:
        raise ValueError(f"--tp {text!r} is no list of numbers of ranks; write it like 1,2,4,8")
    return ranks


def _show(result: Any) -> None:
    from rich.console import Console

    from tpsim.cli.estimate_tables import render

    console = Console(highlight=False)
    for part in render(result):
        console.print(part)
