"""`tpsim validate`: what tpsim says beside what was published and measured."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def validate(
    every: Annotated[bool, typer.Option("--all", help="Every row, not only each group's errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every row.")] = False,
) -> None:
    """Compare with published formulas and figures, and with times measured on real GPUs.

    Exit code 1 if one of the required bounds does not hold.
    """
    from tpsim.studies.validate import groups

    results = [group.result() for group in groups()]
    if as_json:
        print(json.dumps([result.to_dict() for result in results], indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        from tpsim.cli.validate_tables import render

        console = Console(highlight=False)
        for part in render(results, every=every):
            console.print(part)
    if not all(result.holds for result in results):
        raise typer.Exit(1)
