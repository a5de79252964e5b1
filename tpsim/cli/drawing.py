"""Where figures go: a folder, each as PNG and as SVG."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_folder(option: str, folder: Path | None) -> None:
    """Refuse a folder that can't be written to, before a long run and not after it.

    Raises
    ------
    ValueError
        What was asked, why it can't be, what to do.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--{option} {folder} can't be a folder ({error.strerror}); pass one that can be written to"
        ) from None
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--{option} {folder} can't be written to; pass a folder that can")


def draw(figures: Mapping[str, Figure], folder: Path, *, quiet: bool = False) -> None:
    """Write figures to a folder as NAME.png and NAME.svg, and say so (on stderr, if `quiet`)."""
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            figure.savefig(folder / f"{name}.{kind}")
        typer.echo(f"drawn: {folder / name}.png and .svg", err=quiet)
