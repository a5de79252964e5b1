"""The trace of one rank: collectives in order, what is saved for backward, what parameters weigh."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from tpsim.trace.events import CollectiveEvent, KernelEvent, Kind, ParameterRecord, SavedTensor, StateRecord
from tpsim.trace.scope import current_scope, reset_scope
from tpsim.trace.storage import Storages

if TYPE_CHECKING:
    from rich.table import Table

Record: TypeAlias = CollectiveEvent | KernelEvent | SavedTensor | ParameterRecord | StateRecord

_current: ContextVar[Trace | None] = ContextVar("tpsim_trace", default=None)

current: Callable[[], Trace | None] = _current.get
"""The trace that the calling rank is recording into, or None."""


class Trace:
    """Records what the calling rank does inside the `with` block; enter one in each rank's `main`.

    `table()` shows it; `tpsim.plots.communication` and `tpsim.plots.memory` draw one trace a rank.

    Parameters
    ----------
    kernels : bool
        Whether to record arithmetic too.
    saved : bool
        Whether to record what is saved for backward: some 20 µs a tensor.

    Attributes
    ----------
    collectives : list of CollectiveEvent
        In the order in which this rank completed them.
    kernels : list of KernelEvent
        In order; empty unless `kernels=True` was asked for.
    saved : list of SavedTensor
        Every tensor kept for backward, in order; empty with `saved=False`.
    parameters : list of ParameterRecord
        Filled by `Layer.record_parameters`.
    states : list of StateRecord
        Filled by `Optimizer.record_state`.
    saved_over_time : list of (int, int)
        Place in the order, and `saved_bytes` from there on.
    began : float
        `time.perf_counter()` at its making; events' `start` counts from here.
    seconds : float
        From there to the last end of a `with` block.
    saved_bytes, peak_saved_bytes : int
        Bytes that saved tensors keep alive now, and at most so far.

    Examples
    --------
    >>> import numpy as np
    >>> from tpsim import Trace, run
    >>> from tpsim.comm import Group
    >>> def main(comm):
    ...     group = Group(comm)
    ...     with Trace() as trace:
    ...         group.all_reduce(np.arange(8.0))
    ...     return [event.bytes_sent for event in trace.collectives]
    >>> run(main, ranks=4)
    [[96], [96], [96], [96]]
    """

    def __init__(self, *, kernels: bool = False, saved: bool = True) -> None:
        self.records_kernels = kernels
        self.records_saved = saved
        self.collectives: list[CollectiveEvent] = []
        self.kernels: list[KernelEvent] = []
        self.saved: list[SavedTensor] = []
        self.parameters: list[ParameterRecord] = []
        self.states: list[StateRecord] = []
        self.saved_over_time: list[tuple[int, int]] = []
        self.peak_saved_bytes = 0
        self.began = time.perf_counter()
        self.seconds = 0.0
        self._order = 0
        self._storages = Storages()
        self._tokens: list[Token[Trace | None]] = []  # one a `with` block that is entered

    @property
    def saved_bytes(self) -> int:
        """Bytes that saved tensors keep alive now."""
        return self._storages.nbytes

    def __enter__(self) -> Trace:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())
        self.seconds = time.perf_counter() - self.began

    def __getstate__(self) -> dict[str, Any]:
        # A trace travels between processes as its records; what is alive stays behind.
        return {**self.__dict__, "_storages": Storages(), "_tokens": []}

    def next(self) -> int:
        """Return the next place in the order of things."""
        self._order += 1
        return self._order

    def save(self, name: str, array: NDArray[Any], kind: Kind) -> SavedTensor:
        """A layer keeps `array` for backward."""
        nbytes = self._storages.add(array)
        self.peak_saved_bytes = max(self.peak_saved_bytes, self.saved_bytes)
        path = current_scope().path
        record = SavedTensor(path, name, array.shape, str(array.dtype), nbytes, kind, self.next())
        self.saved.append(record)
        self.saved_over_time.append((record.born, self.saved_bytes))
        return record

    def release(self, array: NDArray[Any], record: SavedTensor | None = None) -> None:
        """A layer lets a saved array go; `record` is what `save` returned for it."""
        order = self.next()
        if record is not None:
            record.died = order
        self._storages.remove(array)
        self.saved_over_time.append((order, self.saved_bytes))

    # -- questions that demos, tests and plots ask ------------------------------------------------

    def select(
        self, *, operation: str | None = None, phase: str | None = None, layer: str | None = None
    ) -> list[CollectiveEvent]:
        """Return the collectives that match all the given fields (`layer` matches as a prefix)."""
        return [
            event
            for event in self.collectives
            if (operation is None or event.operation == operation)
            and (phase is None or event.phase == phase)
            and (layer is None or event.layer == layer or event.layer.startswith(layer + "."))
        ]

    def saved_by_layer(self, kind: str = "activation") -> dict[str, int]:
        """Return bytes saved for backward by layer path, in order; over all forward passes of the trace."""
        totals: dict[str, int] = {}
        for tensor in self.saved:
            if tensor.kind == kind:
                totals[tensor.layer] = totals.get(tensor.layer, 0) + tensor.nbytes
        return totals

    # -- ways out ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the records as plain lists and dicts."""
        return {
            "collectives": [_plain(event) for event in self.collectives],
            "kernels": [_plain(event) for event in self.kernels],
            "saved": [_plain(tensor) for tensor in self.saved],
            "parameters": [_plain(parameter) for parameter in self.parameters],
            "states": [_plain(state) for state in self.states],
            "saved_over_time": [list(point) for point in self.saved_over_time],
            "peak_saved_bytes": self.peak_saved_bytes,
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the records as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def table(self) -> Table:
        """Return a `rich` table of the collectives, one row for each operation, layer and direction."""
        from tpsim.trace.tables import collectives_table

        return collectives_table([self])


def isolate() -> None:
    """Record nothing, and stand in no scope: what a rank starts with, whatever its caller records."""
    _current.set(None)
    reset_scope()


def _plain(record: Record) -> dict[str, Any]:
    """Return a record as JSON has it: with lists for tuples."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(record).items()}
