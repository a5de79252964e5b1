"""`tpsim tutorials`: where the chapters are, and the same as notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpsim.cli.usage import UsageError, usage_errors


def tutorials(
    notebook: Annotated[
        Path | None, typer.Option(help="Write every chapter as .ipynb into this folder.")
    ] = None,
    copy: Annotated[Path | None, typer.Option(help="Copy chapters and demos to this new folder.")] = None,
) -> None:
    """List the chapters: each runs as python FILE, and opens as cells in VS Code and Jupyter."""
    from tpsim.studies import tutorials as study

    with usage_errors():
        try:
            if copy is not None:
                typer.echo(f"copied: {study.copy_out(copy)}")
            if notebook is not None:
                for path in study.write_notebooks(notebook):
                    typer.echo(f"written: {path}")
        except OSError as error:
            raise UsageError(
                f"{error.filename} can't be written ({error.strerror}); pass a folder that can"
            ) from None
    if copy is None and notebook is None:
        typer.echo(f"in {study.folder()}:")
        for chapter in study.chapters():
            typer.echo(f"  {chapter.name:36} {study.title(chapter)}")
