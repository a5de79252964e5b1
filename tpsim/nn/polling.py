"""Computing in pieces, with a look at the messages under way after each.

Messages move only when somebody looks: `Handle.test` takes a collective's next steps, and an MPI library
moves most bytes only while it is called. A GEMM asks nobody, so the GEMM that hides a message is cut. (A GPU
cuts none: its messages have a stream, and engines, of their own.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Handle

Array = NDArray[Any]

_pieces: ContextVar[int] = ContextVar("tpsim_pieces", default=8)


@contextmanager
def cut_into(pieces: int) -> Iterator[None]:
    """Cut each GEMM that hides messages into so many, inside the `with` block; 8 is the default.

    1 cuts none: for a dry run, where messages need no looking after.
    """
    if pieces < 1:
        raise ValueError(f"cut_into: {pieces} pieces are none; pick 1 or more")
    token = _pieces.set(pieces)
    try:
        yield
    finally:
        _pieces.reset(token)


def polling(length: int, *under_way: Handle | None, steps: int = 1) -> Iterator[slice]:
    """Yield slices that cut `length` evenly; push what is under way on whenever the caller comes back.

    Parameters
    ----------
    length : int
        Rows of the GEMM.
    under_way : Handle or None
        None for what is there already; with nothing under way, all is one slice.
    steps : int
        Into how many the GEMM is cut anyway, of which this is one.
    """
    handles = [handle for handle in under_way if handle is not None]
    pieces = -(-_pieces.get() // steps) if handles else 1
    size = max(-(-length // pieces), 1)
    for start in range(0, max(length, 1), size):
        yield slice(start, min(start + size, length))
        for handle in handles:
            handle.test()


def joined(parts: Sequence[Array], axis: int) -> Array:
    """Return what was computed in pieces; a single piece is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)
