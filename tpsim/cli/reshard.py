"""`tpsim reshard`: a checkpoint, cut for another number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpsim.cli.usage import UsageError, usage_errors


def reshard(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint, or a run's folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to hold the new one.")],
    tp: Annotated[int, typer.Option(help="For how many tensor-parallel ranks.")],
) -> None:
    """Cut a checkpoint for another number of ranks, and write it as one file a rank.

    Loading cuts on the fly as well; this spares many ranks the search through few large files.
    """
    with usage_errors():
        from tpsim.train.reshard import reshard as cut_anew

        try:
            written = cut_anew(source, target, tp)
        except OSError as error:
            raise UsageError(
                f"{target} can't be written ({error.strerror}); pass a folder that can, with room"
            ) from None
    print(f"written: {written}")
