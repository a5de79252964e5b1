"""What ranks print: whole lines, each with its rank in front if wanted."""

from __future__ import annotations

import codecs
import io
from typing import Any, Protocol, TextIO

from tpsim.script.threads import rank_here


class Target(Protocol):
    """What lines are written to: as much of a text stream as that takes."""

    def write(self, text: str, /) -> int: ...  # noqa: D102
    def flush(self) -> None: ...  # noqa: D102
    def isatty(self) -> bool: ...  # noqa: D102
    def fileno(self) -> int: ...  # noqa: D102


class Lines(io.BufferedIOBase):
    """Passes on what one rank writes, a line at a time, so that ranks never share a line.

    Parameters
    ----------
    target : text stream
        Where lines go.
    prefix : str
        What stands before each line.
    family : list of Lines
        Those of all ranks. `print` in a thread finds the `sys.stdout` of whichever rank has its turn, and
        its line belongs to the rank that started the thread.
    """

    def __init__(self, target: Target, prefix: str, family: list[Lines]) -> None:
        self._target = target
        self._prefix = prefix
        self._family = family
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes; pass on what they complete."""
        raw, rank = bytes(data), rank_here()
        (self if rank is None else self._family[rank])._take(raw)
        return len(raw)

    def _take(self, raw: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(raw)).split("\n")
        if lines:
            self._target.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._target.flush()

    def finish(self) -> None:
        """Pass on a last line without an end."""
        if self._rest:
            self._take(b"\n")

    def isatty(self) -> bool:
        """Tell whether lines go to a terminal."""
        return self._target.isatty()

    def fileno(self) -> int:
        """Return the descriptor that lines go to."""
        return self._target.fileno()


def lines_of_ranks(ranks: int, target: Target, *, prefix: bool) -> list[Lines]:
    """Return what each rank writes to, on the way to `target`."""
    family: list[Lines] = []
    family += [Lines(target, f"[{rank}] " if prefix else "", family) for rank in range(ranks)]
    return family


def text_stream(lines: Lines) -> TextIO:
    """Return a text stream, such as `sys.stdout`, that writes to `lines`."""
    raw: Any = lines
    return io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline="\n", write_through=True)
