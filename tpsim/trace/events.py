"""The records of a trace: plain data, one class a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tpsim.trace.scope import Phase

Kind = Literal["activation", "statistic", "recomputed"]


@dataclass(slots=True)
class CollectiveEvent:
    """One collective (or one send) as one rank saw it.

    `bytes_sent` and `messages` are what *this rank* put on the wire: counted while sending where the
    algorithm ran message by message, and the closed form of the named algorithm where it did not
    (`counted` tells which). `start` and `seconds` are wall time; `start` counts from the trace's beginning.
    """

    operation: str
    algorithm: str
    group: str
    ranks: int
    rank: int
    shape: tuple[int, ...]
    dtype: str
    bytes_sent: int
    messages: int
    counted: bool
    layer: str
    phase: Phase
    start: float
    seconds: float


@dataclass(slots=True)
class SavedTensor:
    """One tensor kept for backward.

    `nbytes` is what keeping it costs: 0 where the same buffer, or a view of it, was kept already.
    `kind` is "activation" for what the papers count, "statistic" for norm statistics and caches kept
    for speed, which they do not, "recomputed" for what a rerun in backward keeps for a moment.
    """

    layer: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    kind: Kind


@dataclass(slots=True)
class ParameterRecord:
    """One parameter as this rank holds it; sizes in bytes (`grad_bytes` is 0 before a backward)."""

    name: str
    whole_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    grad_bytes: int
    sharding: str
