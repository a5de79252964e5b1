"""`tpsim plot`: figures for a slide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpsim.cli.drawing import check_folder, draw
from tpsim.cli.usage import usage_errors


def plot(
    name: Annotated[str | None, typer.Argument(help="A figure, or all; without it they are listed.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model than the figure's own.")] = None,
    hardware: Annotated[str, typer.Option(help="A profile's name, or a file of tpsim calibrate.")] = "h200",
    out: Annotated[Path, typer.Option(help="Folder for NAME.png and NAME.svg.")] = Path("figures"),
    listing: Annotated[bool, typer.Option("--list", help="List the figures.")] = False,
) -> None:
    """Draw what tensor parallelism costs: traffic, memory, time."""
    with usage_errors():
        from tpsim.studies import figures

        if listing or name is None:
            for known, topic in figures.TOPICS.items():
                typer.echo(f"{known:12} {topic.about} ({topic.model})")
            return
        names = list(figures.TOPICS) if name == "all" else [name]
        for one in names:
            figures.topic_named(one)
        check_folder("out", out)
        for one in names:
            draw({one: figures.draw(one, model, hardware)}, out)
