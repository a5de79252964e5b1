"""The records of a trace: plain data, one class a kind.

All records of a trace share one count, `order`, in which its rank did things: a timeline is the kernels
and collectives by `order`, and a saved tensor lives from `born` to `died`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tpsim.trace.scope import Phase

Kind = Literal["activation", "statistic", "recomputed"]


@dataclass(slots=True)
class CollectiveEvent:
    """One collective (or one send) as one rank saw it.

    `bytes_sent` and `messages` are what *this rank* put on the wire: counted while sending where the
    algorithm ran message by message, and the closed form of the named algorithm where it did not
    (`counted` tells which). `start` and `seconds` are wall time; `start` counts from the trace's beginning.
    A non-blocking call is `begun` at one place of the order and completed, `order`, at a later one.
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
    begun: int = 0
    order: int = 0


@dataclass(slots=True)
class KernelEvent:
    """One piece of arithmetic that a GPU would run as one kernel, as `tpsim.dry.kernel` marks them.

    In a dry run, operations outside of any mark are kernels of their own, by NumPy's name.

    Attributes
    ----------
    name : str
        The marked function's ("linear_grad_input"), or NumPy's ("add").
    inputs, outputs : tuple of shapes
        Of its arrays, in the order of its arguments and results.
    dtype : str
        Of the first input.
    options : dict
        Its other arguments, given by name ("causal": True).
    flops : int
        An addition or a multiplication counts 1; a matrix product 2·m·n·k.
    bytes_read, bytes_written : int
        Each input and each result once: what a fused kernel moves.
    start, seconds : float
        Wall time, of a real run; 0 in a dry one.
    """

    name: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    dtype: str
    flops: int
    bytes_read: int
    bytes_written: int
    layer: str
    phase: Phase
    order: int
    start: float = 0.0
    seconds: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    matmul_flops: int = 0


@dataclass(slots=True)
class SavedTensor:
    """One tensor kept for backward.

    `nbytes` is what keeping it costs: 0 where the same buffer, or a view of it, was kept already.
    `kind` is "activation" for what the papers count, "statistic" for norm statistics and caches kept
    for speed, which they do not, "recomputed" for what a rerun in backward keeps for a moment.
    It lives from `born` to `died` in the trace's order; `died` is None while it is kept.
    """

    layer: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    kind: Kind
    born: int = 0
    died: int | None = None


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


@dataclass(slots=True)
class StateRecord:
    """What an optimizer remembers for one parameter: `kind` is "m", "v", "master", …; sizes in bytes."""

    parameter: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
